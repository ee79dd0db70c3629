//! What is expected in each cell, as data: one row for a door and the clients that have it, one column
//! for each person. It knows nothing of how a cell is tried.

use std::fmt::{self, Write as _};

use Client::{Http, V5, V311};
use Door::*;
use Verdict::{Gets, NoEntry, Nothing, OwnBan, Refused};

/// A way in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Speak in the room.
    Publish,
    /// `chat/cellar/+`
    ByName,
    /// `#`
    Everything,
    /// `+/+/+`
    ThreeLevels,
    /// `$share/{group}/chat/cellar/+`
    ShareByName,
    /// `$share/{group}/chat/#`
    Share,
    /// `$replay/last/1000/chat/cellar/+`
    ReplayByName,
    /// `$replay/last/1000/chat/#`
    Replay,
    /// `room/#` and `read/#`; over HTTP the room, its members and one's marker.
    Retained,
    /// A Will that speaks in the room.
    Will,
    /// The same, retained.
    RetainedWill,
    /// Speak in the room under the name of another.
    AnotherName,
    /// Type in the room.
    Typing,
    /// `typing/#`
    Typists,
    /// The request `history`; over HTTP the messages of the room.
    History,
    /// `/v1/events`, live and from a cursor on.
    Events,
    /// `/v1/poll`, waiting and from a cursor on.
    Poll,
    /// Of somebody who shows it to those who share a room.
    Presence,
    /// Requests about the room: whether it is listed, and to be renamed.
    Request,
}

pub const DOORS: [Door; 19] = [
    Publish,
    ByName,
    Everything,
    ThreeLevels,
    ShareByName,
    Share,
    ReplayByName,
    Replay,
    Retained,
    Will,
    RetainedWill,
    AnotherName,
    Typing,
    Typists,
    History,
    Events,
    Poll,
    Presence,
    Request,
];

/// What somebody speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    V311,
    V5,
    Http,
}

pub const CLIENTS: [Client; 3] = [V311, V5, Http];

/// Everyone is in the lobby too, except for who is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// In the room.
    Member,
    /// In the room, and only reads.
    Reader,
    /// Was in the room, and is banned from it.
    Banned,
    /// Was never in the room.
    Outsider,
    /// A member whose account was disabled while connected.
    Disabled,
    /// A device of the member's, which is not in the room itself.
    Device,
}

pub const PEOPLE: [Person; 6] = [
    Person::Member,
    Person::Reader,
    Person::Banned,
    Person::Outsider,
    Person::Disabled,
    Person::Device,
];

/// What becomes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has what is said or kept there; of who speaks: it is heard by members.
    Gets,
    /// Taken, and nothing of the room comes, or is heard there.
    Nothing,
    /// As before, but for the notice that oneself is banned.
    OwnBan,
    /// Told no, and nothing of the room comes, or is heard there.
    Refused,
    /// What was open ended, with nothing of the room; and nobody is let in again.
    NoEntry,
}

/// One row.
pub struct Row {
    pub door: Door,
    pub clients: &'static [Client],
    pub expected: Expected,
}

pub enum Expected {
    /// In the order of [`PEOPLE`].
    Verdicts([Verdict; PEOPLE.len()]),
    /// These clients do not have this door, for this reason.
    NoSuchDoor(&'static str),
}

const fn row(door: Door, clients: &'static [Client], verdicts: [Verdict; PEOPLE.len()]) -> Row {
    Row {
        door,
        clients,
        expected: Expected::Verdicts(verdicts),
    }
}

const fn none(door: Door, clients: &'static [Client], why: &'static str) -> Row {
    Row {
        door,
        clients,
        expected: Expected::NoSuchDoor(why),
    }
}

const MQTT: &[Client] = &[V311, V5];
const WEB: &[Client] = &[Http];
const ALL: &[Client] = &[V311, V5, Http];

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    //                  who speaks   member  reader   banned   outsider disabled device
    row(Publish,        ALL,       [ Gets,   Refused, Refused, Refused, NoEntry, Refused ]),
    row(ByName,         ALL,       [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
    row(Everything,     ALL,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    row(ThreeLevels,    ALL,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    row(ShareByName,    MQTT,      [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
    none(ShareByName,   WEB,       "an answer over HTTP is for one reader"),
    row(Share,          MQTT,      [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    none(Share,         WEB,       "an answer over HTTP is for one reader"),
    row(ReplayByName,   MQTT,      [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
    none(ReplayByName,  WEB,       "streams and polls have a cursor instead, and pages: Events, Poll, History"),
    row(Replay,         MQTT,      [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    none(Replay,        WEB,       "streams and polls have a cursor instead, and pages: Events, Poll, History"),
    row(Retained,       MQTT,      [ Gets,   Gets,    OwnBan,  Nothing, NoEntry, Nothing ]),
    row(Retained,       WEB,       [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
    row(Will,           MQTT,      [ Gets,   Nothing, Nothing, Nothing, NoEntry, Nothing ]),
    none(Will,          WEB,       "a request has no connection whose loss says something"),
    row(RetainedWill,   MQTT,      [ Gets,   Nothing, Nothing, Nothing, NoEntry, Nothing ]),
    none(RetainedWill,  WEB,       "a request has no connection whose loss says something"),
    row(AnotherName,    MQTT,      [ Refused, Refused, Refused, Refused, NoEntry, Refused ]),
    none(AnotherName,   WEB,       "no path and no body names who speaks: it is who signed in"),
    row(Typing,         ALL,       [ Gets,   Refused, Refused, Refused, NoEntry, Refused ]),
    row(Typists,        ALL,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    row(History,        ALL,       [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
    row(Events,         WEB,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    none(Events,        MQTT,      "a stream of events is HTTP"),
    row(Poll,           WEB,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    none(Poll,          MQTT,      "a poll is HTTP"),
    row(Presence,       ALL,       [ Gets,   Gets,    Nothing, Nothing, NoEntry, Nothing ]),
    row(Request,        ALL,       [ Gets,   Gets,    Refused, Refused, NoEntry, Refused ]),
];

/// One cell that was tried.
pub struct Tried {
    pub door: Door,
    pub client: Client,
    pub person: Person,
    pub expected: Verdict,
    /// What happened, or what could not even be tried.
    pub found: Result<Verdict, String>,
}

impl Tried {
    pub fn is_as_expected(&self) -> bool {
        self.found.as_ref() == Ok(&self.expected)
    }
}

/// The whole table, with what was found instead in the cells that are otherwise.
pub fn report(tried: &[Tried]) -> String {
    let mut text = String::from("\n");
    let mut line = |first: &str, clients: &str, cells: &[String]| {
        let _ = write!(text, "{first:13}{clients:17}");
        for cell in cells {
            let _ = write!(text, "{cell:20}");
        }
        text.push('\n');
    };
    let names: Vec<String> = PEOPLE.iter().map(ToString::to_string).collect();
    line("door", "client", &names);
    for row in TABLE {
        for client in row.clients {
            let cells: Vec<String> = match row.expected {
                Expected::Verdicts(verdicts) => (PEOPLE.iter().zip(verdicts))
                    .map(|(person, expected)| {
                        let cell = tried.iter().find(|one| {
                            (one.door, one.client, one.person) == (row.door, *client, *person)
                        });
                        match cell.map(|cell| &cell.found) {
                            Some(Ok(found)) if *found == expected => expected.to_string(),
                            Some(Ok(found)) => format!("{expected} BUT {found}"),
                            Some(Err(_)) => format!("{expected} BUT (below)"),
                            None => format!("{expected} (not tried)"),
                        }
                    })
                    .collect(),
                Expected::NoSuchDoor(why) => vec![format!("- {why}")],
            };
            line(&row.door.to_string(), &client.to_string(), &cells);
        }
    }
    for cell in tried.iter().filter(|cell| !cell.is_as_expected()) {
        let found = match &cell.found {
            Ok(found) => found.to_string(),
            Err(error) => error.clone(),
        };
        let Tried {
            door,
            client,
            person,
            expected,
            ..
        } = cell;
        let _ = writeln!(
            text,
            "{door}, {client}, {person}: expected {expected}: {found}"
        );
    }
    text
}

macro_rules! shown_by_name {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    )*};
}

shown_by_name!(Door, Client, Person, Verdict);

#[test]
fn every_door_has_a_cell_or_a_reason_for_every_client_and_person() {
    let mut cells = 0;
    for door in DOORS {
        for client in CLIENTS {
            let rows = TABLE.iter();
            let rows: Vec<&Row> = rows
                .filter(|row| row.door == door && row.clients.contains(&client))
                .collect();
            assert_eq!(rows.len(), 1, "{door}, {client}");
            cells += match rows[0].expected {
                Expected::Verdicts(verdicts) => verdicts.len(),
                Expected::NoSuchDoor(why) => {
                    assert!(why.len() > 10, "{door}, {client}: why not?");
                    PEOPLE.len()
                }
            };
        }
    }
    assert_eq!(cells, DOORS.len() * CLIENTS.len() * PEOPLE.len());
    let listed: usize = TABLE.iter().map(|row| row.clients.len()).sum();
    assert_eq!(listed, DOORS.len() * CLIENTS.len(), "rows of no door");
}
