//! Requests as clients send them: variables, scalars, headers, tokens, and the key order of the
//! response.

mod answers;
mod before;
mod doors;
mod everywhere;
mod times;
mod updates;
mod variables;
