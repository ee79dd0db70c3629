//! The targets of `tidings-tests` and what they need, from the same files, without everything else
//! that package has: other brokers, clients, and what it takes to build them.

#[path = "../../src/fuzzing/mod.rs"]
pub mod fuzzing;
#[path = "../../src/seeded.rs"]
pub mod seeded;
#[path = "../../src/simulation/mod.rs"]
pub mod simulation;
