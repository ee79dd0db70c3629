//! Who may see what: every door by every client for every person, against the real program. The
//! expected answers are the table in [`table`]; a cell that is otherwise shows all of it.

mod cells;
mod house;
mod http;
mod revocation;
mod table;

use house::House;
use table::{Tried, report};

#[test]
fn every_door_answers_everyone_over_every_client_as_the_table_says() {
    let mut house = House::new();
    let tried = cells::try_all(&mut house);
    assert!(
        tried.iter().all(Tried::is_as_expected),
        "{}",
        report(&tried)
    );
}
