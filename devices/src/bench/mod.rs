//! The comparison benchmark: what is measured (`scenario`), the broker as a load sees it (`target`),
//! the load itself (`load`) and what came of it (`outcome`); then the brokers that are there
//! (`brokers`), in which order they are run (`schedule`, `compare`, with `sync_time`), what is read from several runs
//! (`measure`) and how that is shown (`progress`, `report`).

pub mod brokers;
pub mod compare;
pub mod load;
pub mod measure;
pub mod outcome;
pub mod progress;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod sync_time;
pub mod target;
