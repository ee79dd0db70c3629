//! The comparison benchmark: what is measured (`scenario`), the broker as a load sees it (`target`),
//! the load itself (`load`) and what came of it (`outcome`).

pub mod brokers;
pub mod load;
pub mod outcome;
pub mod scenario;
pub mod target;
