//! The journal on segment files: the only truth of the broker, on disk.
//!
//! [`Writer`] appends, [`SegmentJournal`] reads; they share what is committed. The form of the
//! bytes is in `frame` and [`record`], what is in the directory in `layout`, how it is opened in
//! `open`, what is removed in `trim`. Nothing here knows a clock, a thread or a socket; all files
//! are reached through [`fs::Fs`].

mod cache;
mod dump;
mod fetch;
mod frame;
pub mod fs;
mod fsck;
mod index;
mod layout;
mod load;
mod open;
mod reader;
pub mod record;
mod replay;
mod select;
pub mod sim_fs;
mod summary;
mod tail;
#[cfg(test)]
mod tests;
mod trim;
pub(crate) mod wire;
mod writer;

pub use cache::{SEALED_INDEX_CACHE_BYTES, SEALED_OPEN_MAX};
pub use dump::{Dump, dump, entry_json};
pub use frame::{FORMAT_VERSION, MAX_FRAME_BYTES};
pub use fsck::{FsckReport, Problem, fsck};
pub use open::{OpenError, Recovery};
pub use reader::SegmentJournal;
pub use trim::TrimReport;
pub use writer::{
    Chore, Durability, HeadLookup, JournalError, Options, ResealChore, SealChore, SpareChore,
    Writer, Written,
};
