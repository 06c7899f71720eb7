//! The runs that prove the promises: each suite has a short form for `cargo test` and a long one
//! for `cargo chaos`.

pub mod membership;
