//! Requests as clients send them: variables, scalars, headers, tokens, and the order of the answer.

mod answers;
mod doors;
mod everywhere;
mod before;
mod times;
mod updates;
mod variables;
