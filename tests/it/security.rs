//! Attacks: each entry of the list of attacks, and variants of it. A second tenant is served
//! meanwhile.

mod answers;
mod attacks;
mod calls;
mod cost;
mod door;
mod evaluation;
mod neighbour;
mod poison;
mod sharing;
mod tenancy;
mod texts;
mod tokens;
