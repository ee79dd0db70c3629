//! What a broker of shards, a journal and sessions has to do, one statement at a time; then whole
//! lives of it from random seeds. No sockets, no threads, no clock: see `tidings_tests::simulation`.

mod basics;
mod changes;
mod cursor;
mod limits;
mod lives;
mod log_structured;
mod owner;
mod random;
mod replay;
mod retained;
mod shared;
