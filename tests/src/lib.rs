//! Whole-system tests, and the programs behind the cargo aliases.

pub mod demo;
