//! The journal on segment files.

pub mod record;
mod wire;
