//! Requests as clients send them: variables, scalars, headers, tokens, and the order of the answer.

mod answers;
mod before;
mod doors;
mod everywhere;
mod times;
mod updates;
mod variables;
