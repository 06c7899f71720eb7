//! Where does a place answer otherwise than Kafka? Every known difference, by name, with its reason.

use super::place::Kind;

/// A scenario that goes otherwise in a place.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// Which scenario.
    pub scenario: &'static str,
    /// In which place.
    pub place: Kind,
    /// What is otherwise.
    pub differs: Differs,
    /// Why, and where that can be read.
    pub why: &'static str,
}

/// What is otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Differs {
    /// The place lacks what the scenario needs.
    CantBePlayed,
    /// These are the facts there.
    Answers(&'static [&'static str]),
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[];
