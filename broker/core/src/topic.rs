//! Topic Names and Topic Filters (§4.7, §4.8.2): what is well formed, and which filter matches
//! which name.
//!
//! Everything here is borrowed text and takes no memory. [`matches`] expects what
//! [`validate_name`] and [`parse_filter`] accepted. This module does not know who may use a topic
//! (see [`crate::rules`]) nor how many filters are searched at once (see [`crate::tree`]).

use thiserror::Error;

use crate::message::Cursor;

/// Longest Topic Name or Topic Filter in bytes [MQTT-4.7.3-3].
pub const MAX_BYTES: usize = 65_535;

/// Most levels of a Topic Name or Topic Filter. The specification has no limit; ours bounds the
/// work of one match, and is far above what any known hierarchy uses.
pub const MAX_LEVELS: usize = 128;

const SHARE_PREFIX: &str = "$share/";
const REPLAY_PREFIX: &str = "$replay/";
const REPLAY_WORD: &str = "$replay";
const AFTER_WORD: &str = "after";
/// Instead of a cursor: from the SUBSCRIBE on.
const NOW: &str = "now";

/// Why a Topic Name or Topic Filter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Topic Names and Topic Filters have at least one character [MQTT-4.7.3-1].
    #[error("the topic is empty")]
    Empty,
    /// Longer than [`MAX_BYTES`] [MQTT-4.7.3-3].
    #[error("the topic is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_LEVELS`] levels.
    #[error("the topic has more than {MAX_LEVELS} levels")]
    TooManyLevels,
    /// U+0000 is not allowed [MQTT-4.7.3-2].
    #[error("the topic contains U+0000")]
    NullCharacter,
    /// A Topic Name has no wildcards [MQTT-4.7.0-1].
    #[error("a topic name must not contain + or #")]
    WildcardInName,
    /// `#` is the last level, and alone in it [MQTT-4.7.1-1].
    #[error("# must be alone in the last level of a filter")]
    MisplacedHash,
    /// `+` is alone in its level [MQTT-4.7.1-2].
    #[error("+ must be alone in its level of a filter")]
    MisplacedPlus,
    /// The ShareName is not empty and has no wildcards [MQTT-4.8.2-1].
    #[error("the share name in $share/NAME/FILTER must not be empty nor contain + or #")]
    BadShareName,
    /// A filter follows the ShareName [MQTT-4.8.2-2].
    #[error("a filter must follow the share name: $share/NAME/FILTER")]
    MissingSharedFilter,
    /// The word after `$replay/` is none of ours.
    #[error(
        "$replay is followed by last/COUNT, seq/NUMBER, ts/MILLISECONDS or after/CURSOR, then /FILTER"
    )]
    BadReplayStart,
    /// The number of a replay is missing, not decimal, or too large.
    #[error(
        "the number in $replay/last/COUNT, seq/NUMBER or ts/MILLISECONDS is not a decimal number in range"
    )]
    BadReplayNumber,
    /// What stands for a cursor is none.
    #[error("the cursor in $replay/after/CURSOR is neither now nor one that was handed out")]
    BadCursor,
    /// The filter of a replay is missing.
    #[error("a filter must follow the start of a replay: $replay/last/50/FILTER")]
    MissingReplayFilter,
    /// `$share` and `$replay` do not combine: a share has no beginning of its own.
    #[error("$share and $replay cannot stand inside each other")]
    NestedPrefix,
}

/// Where a `$replay` subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplayFrom {
    /// At most so many of the newest messages that match.
    Last(u32),
    /// Messages whose number within their stream is at least this.
    Seq(u64),
    /// Messages published at this time or later, milliseconds since the Unix epoch.
    Ts(u64),
}

/// What a Topic Filter of a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterKind<'a> {
    /// An ordinary subscription.
    Plain(&'a str),
    /// `$share/{group}/{filter}` (§4.8.2).
    Shared {
        /// The ShareName.
        group: &'a str,
        /// The filter to match with.
        filter: &'a str,
    },
    /// `$replay/{last|seq|ts}/{number}/{filter}`: history first, then live.
    Replay {
        /// Where to begin.
        from: ReplayFrom,
        /// The filter to match with.
        filter: &'a str,
    },
    /// `$replay/after/{cursor}/{filter}`: everything kept from a position on, then live.
    After {
        /// The position; `None` (`now`): from the SUBSCRIBE on.
        cursor: Option<Cursor>,
        /// The filter to match with.
        filter: &'a str,
    },
}

impl<'a> FilterKind<'a> {
    /// The filter that topics are matched with, without `$share/...` or `$replay/...`.
    pub const fn filter(&self) -> &'a str {
        match self {
            Self::Plain(filter)
            | Self::Shared { filter, .. }
            | Self::Replay { filter, .. }
            | Self::After { filter, .. } => filter,
        }
    }
}

/// Checks a Topic Name (§4.7).
///
/// # Errors
/// Empty, too long, too deep, U+0000, or a wildcard.
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    validate_length(name)?;
    let mut levels = 1;
    for byte in name.bytes() {
        match byte {
            0 => return Err(TopicError::NullCharacter),
            b'+' | b'#' => return Err(TopicError::WildcardInName),
            b'/' => levels += 1,
            _ => {}
        }
    }
    validate_levels(levels)
}

/// Checks a Topic Filter of any kind, as [`parse_filter`] does.
///
/// # Errors
/// The same as [`parse_filter`].
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    parse_filter(filter).map(|_| ())
}

/// Checks a Topic Filter and says what kind of subscription it asks for.
///
/// # Errors
/// Empty, too long, too deep, U+0000, a misplaced wildcard, or malformed `$share` or `$replay`.
pub fn parse_filter(filter: &str) -> Result<FilterKind<'_>, TopicError> {
    validate_length(filter)?;
    if let Some(shared) = filter.strip_prefix(SHARE_PREFIX) {
        return parse_shared(shared);
    }
    if filter == REPLAY_WORD {
        return Err(TopicError::BadReplayStart);
    }
    if let Some(replay) = filter.strip_prefix(REPLAY_PREFIX) {
        return parse_replay(replay);
    }
    validate_plain_filter(filter)?;
    Ok(FilterKind::Plain(filter))
}

fn parse_shared(shared: &str) -> Result<FilterKind<'_>, TopicError> {
    let (group, filter) = match shared.split_once('/') {
        Some((group, filter)) => (group, Some(filter)),
        None => (shared, None),
    };
    if group.bytes().any(|byte| byte == 0) {
        return Err(TopicError::NullCharacter);
    }
    if group.is_empty() || group.contains(['+', '#']) {
        return Err(TopicError::BadShareName);
    }
    let filter = filter
        .filter(|filter| !filter.is_empty())
        .ok_or(TopicError::MissingSharedFilter)?;
    validate_inner_filter(filter)?;
    Ok(FilterKind::Shared { group, filter })
}

fn parse_replay(replay: &str) -> Result<FilterKind<'_>, TopicError> {
    let (word, rest) = replay.split_once('/').unwrap_or((replay, ""));
    let (number, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if word == AFTER_WORD {
        return parse_after(number, filter);
    }
    let from = match word {
        "last" => ReplayFrom::Last(
            u32::try_from(decimal(number)?).map_err(|_| TopicError::BadReplayNumber)?,
        ),
        "seq" => ReplayFrom::Seq(decimal(number)?),
        "ts" => ReplayFrom::Ts(decimal(number)?),
        _ => return Err(TopicError::BadReplayStart),
    };
    if filter.is_empty() {
        return Err(TopicError::MissingReplayFilter);
    }
    validate_inner_filter(filter)?;
    Ok(FilterKind::Replay { from, filter })
}

fn parse_after<'a>(cursor: &str, filter: &'a str) -> Result<FilterKind<'a>, TopicError> {
    let cursor = match cursor {
        NOW => None,
        text => Some(text.parse().map_err(|_| TopicError::BadCursor)?),
    };
    if filter.is_empty() {
        return Err(TopicError::MissingReplayFilter);
    }
    validate_inner_filter(filter)?;
    Ok(FilterKind::After { cursor, filter })
}

/// Digits only: `str::parse` alone would also take a leading `+`.
fn decimal(text: &str) -> Result<u64, TopicError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TopicError::BadReplayNumber);
    }
    text.parse().map_err(|_| TopicError::BadReplayNumber)
}

fn validate_inner_filter(filter: &str) -> Result<(), TopicError> {
    if filter.starts_with(SHARE_PREFIX)
        || filter.starts_with(REPLAY_PREFIX)
        || filter == REPLAY_WORD
    {
        return Err(TopicError::NestedPrefix);
    }
    validate_plain_filter(filter)
}

fn validate_plain_filter(filter: &str) -> Result<(), TopicError> {
    let bytes = filter.as_bytes();
    let mut levels = 1;
    for (at, &byte) in bytes.iter().enumerate() {
        let begins_level = at == 0 || bytes.get(at - 1) == Some(&b'/');
        match byte {
            0 => return Err(TopicError::NullCharacter),
            b'/' => levels += 1,
            b'#' if !begins_level || at + 1 != bytes.len() => {
                return Err(TopicError::MisplacedHash);
            }
            b'+' if !begins_level || !matches!(bytes.get(at + 1), None | Some(b'/')) => {
                return Err(TopicError::MisplacedPlus);
            }
            _ => {}
        }
    }
    validate_levels(levels)
}

fn validate_length(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        length if length > MAX_BYTES => Err(TopicError::TooLong),
        _ => Ok(()),
    }
}

fn validate_levels(levels: usize) -> Result<(), TopicError> {
    if levels > MAX_LEVELS {
        return Err(TopicError::TooManyLevels);
    }
    Ok(())
}

/// True if the Topic Filter (without `$share/...` or `$replay/...`) matches the Topic Name
/// (§4.7.1), both valid. A wildcard in the first level does not match `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut found = levels(topic);
    for wanted in levels(filter) {
        if wanted == "#" {
            return true;
        }
        match found.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    found.next().is_none()
}

/// The levels of a Topic Name or Filter, at least one. They are short: looking at each byte is
/// faster than a search that is made for long texts.
pub(crate) fn levels(topic: &str) -> Levels<'_> {
    Levels { rest: Some(topic) }
}

/// See [`levels`].
#[derive(Clone, Debug)]
pub(crate) struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let Some(end) = rest.bytes().position(|byte| byte == b'/') else {
            return self.rest.take();
        };
        let (level, tail) = rest.split_at(end);
        self.rest = tail.get(1..);
        Some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Epoch, Offset};

    #[test]
    fn mqtt_4_7_3_1_names_and_filters_have_at_least_one_character() {
        assert_eq!(validate_name(""), Err(TopicError::Empty));
        assert_eq!(validate_filter(""), Err(TopicError::Empty));
        assert_eq!(validate_name("/"), Ok(()));
        assert_eq!(validate_filter("/"), Ok(()));
    }

    #[test]
    fn mqtt_4_7_3_2_names_and_filters_have_no_null_character() {
        assert_eq!(validate_name("a/\0"), Err(TopicError::NullCharacter));
        for filter in ["a/\0", "$share/g\0/a", "$share/g/\0", "$replay/last/1/\0"] {
            assert_eq!(validate_filter(filter), Err(TopicError::NullCharacter));
        }
    }

    #[test]
    fn mqtt_4_7_3_3_names_and_filters_have_at_most_65535_bytes() {
        let longest = "x".repeat(MAX_BYTES);
        assert_eq!(validate_name(&longest), Ok(()));
        assert_eq!(validate_filter(&longest), Ok(()));
        let longer = "x".repeat(MAX_BYTES + 1);
        assert_eq!(validate_name(&longer), Err(TopicError::TooLong));
        assert_eq!(validate_filter(&longer), Err(TopicError::TooLong));
    }

    #[test]
    fn names_and_filters_have_at_most_the_named_number_of_levels() {
        let deepest = vec!["x"; MAX_LEVELS].join("/");
        assert_eq!(validate_name(&deepest), Ok(()));
        assert_eq!(validate_filter(&deepest), Ok(()));
        assert_eq!(validate_filter(&format!("$share/g/{deepest}")), Ok(()));
        let deeper = format!("{deepest}/x");
        assert_eq!(validate_name(&deeper), Err(TopicError::TooManyLevels));
        assert_eq!(validate_filter(&deeper), Err(TopicError::TooManyLevels));
    }

    #[test]
    fn mqtt_4_7_0_1_a_name_has_no_wildcards() {
        for name in ["+", "#", "a/+", "a/#", "a+b", "a#"] {
            assert_eq!(validate_name(name), Err(TopicError::WildcardInName));
        }
        assert_eq!(validate_name("$SYS/a b/Ä"), Ok(()));
    }

    #[test]
    fn mqtt_4_7_1_1_hash_stands_alone_in_the_last_level() {
        for filter in ["#", "sport/#", "/#", "+/#", "+/tennis/#"] {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["sport/tennis#", "sport/#/ranking", "#/", "##", "#a", "+#"] {
            assert!(validate_filter(filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn mqtt_4_7_1_2_plus_stands_alone_in_its_level() {
        for filter in ["+", "+/+", "/+", "+/", "sport/+/player1"] {
            assert_eq!(validate_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["sport+", "+a", "++", "a/b+/c"] {
            assert_eq!(validate_filter(filter), Err(TopicError::MisplacedPlus));
        }
    }

    #[test]
    fn mqtt_4_8_2_shared_filters_name_a_group_and_a_filter() {
        assert_eq!(
            parse_filter("$share/workers/jobs/+"),
            Ok(FilterKind::Shared {
                group: "workers",
                filter: "jobs/+"
            })
        );
        assert_eq!(
            parse_filter("$share/g//"),
            Ok(FilterKind::Shared {
                group: "g",
                filter: "/"
            })
        );
        for filter in [
            "$share/",
            "$share//a",
            "$share/+/a",
            "$share/#",
            "$share/a#/b",
        ] {
            assert_eq!(
                parse_filter(filter),
                Err(TopicError::BadShareName),
                "{filter}"
            );
        }
        for filter in ["$share/g", "$share/g/"] {
            assert_eq!(parse_filter(filter), Err(TopicError::MissingSharedFilter));
        }
        assert_eq!(
            parse_filter("$share/g/a/#/b"),
            Err(TopicError::MisplacedHash)
        );
        assert_eq!(
            parse_filter("$shared/g"),
            Ok(FilterKind::Plain("$shared/g"))
        );
    }

    #[test]
    fn replay_filters_say_where_to_begin() {
        let replay = |from, filter| Ok(FilterKind::Replay { from, filter });
        assert_eq!(
            parse_filter("$replay/last/50/chat/lobby/+"),
            replay(ReplayFrom::Last(50), "chat/lobby/+")
        );
        assert_eq!(
            parse_filter("$replay/seq/1200/#"),
            replay(ReplayFrom::Seq(1200), "#")
        );
        assert_eq!(
            parse_filter("$replay/ts/1795225600000/a//b"),
            replay(ReplayFrom::Ts(1_795_225_600_000), "a//b")
        );
    }

    #[test]
    fn a_replay_can_begin_after_a_cursor() {
        let cursor = Some(Cursor {
            epoch: Epoch(0xf00d),
            offset: Offset(7),
        });
        let after = |cursor, filter| Ok(FilterKind::After { cursor, filter });
        assert_eq!(
            parse_filter("$replay/after/000000000000f00d-7/chat/#"),
            after(cursor, "chat/#")
        );
        assert_eq!(parse_filter("$replay/after/now/#"), after(None, "#"));
    }

    #[test]
    fn malformed_replay_filters_are_refused() {
        for (filter, error) in [
            ("$replay", TopicError::BadReplayStart),
            ("$replay/", TopicError::BadReplayStart),
            ("$replay/#", TopicError::BadReplayStart),
            ("$replay/first/1/a", TopicError::BadReplayStart),
            ("$replay/last", TopicError::BadReplayNumber),
            ("$replay/last//a", TopicError::BadReplayNumber),
            ("$replay/last/+5/a", TopicError::BadReplayNumber),
            ("$replay/last/-5/a", TopicError::BadReplayNumber),
            ("$replay/last/4294967296/a", TopicError::BadReplayNumber),
            (
                "$replay/seq/18446744073709551616/a",
                TopicError::BadReplayNumber,
            ),
            ("$replay/ts/+/a", TopicError::BadReplayNumber),
            ("$replay/after", TopicError::BadCursor),
            ("$replay/after/a", TopicError::BadCursor),
            ("$replay/after/1/a", TopicError::BadCursor),
            ("$replay/after/Now/a", TopicError::BadCursor),
            ("$replay/after/now", TopicError::MissingReplayFilter),
            ("$replay/after/now/$share/g/a", TopicError::NestedPrefix),
            (
                "$replay/after/000000000000f00d-7/a/#/b",
                TopicError::MisplacedHash,
            ),
            ("$replay/last/5", TopicError::MissingReplayFilter),
            ("$replay/last/5/", TopicError::MissingReplayFilter),
            ("$replay/last/5/a/#/b", TopicError::MisplacedHash),
            ("$replay/last/5/$share/g/a", TopicError::NestedPrefix),
            ("$share/g/$replay/last/5/a", TopicError::NestedPrefix),
            ("$share/g/$share/h/a", TopicError::NestedPrefix),
        ] {
            assert_eq!(parse_filter(filter), Err(error), "{filter}");
        }
    }

    #[test]
    fn filters_match_as_the_examples_of_the_specification_say() {
        for (filter, topic) in [
            ("sport/tennis/player1/#", "sport/tennis/player1"),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
            ),
            ("sport/#", "sport"),
            ("#", "a/b/c"),
            ("#", "/"),
            ("sport/tennis/+", "sport/tennis/player1"),
            ("sport/+", "sport/"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("+", "a"),
            ("+/#", "a"),
            ("a/+/c", "a//c"),
        ] {
            assert!(matches(filter, topic), "{filter} should match {topic}");
        }
        for (filter, topic) in [
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("sport/+", "sport"),
            ("+", "/finance"),
            ("a", "A"),
            ("a", "a/"),
            ("/a", "a"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("sport/#", "sports"),
        ] {
            assert!(!matches(filter, topic), "{filter} should not match {topic}");
        }
    }

    #[test]
    fn mqtt_4_7_2_1_a_wildcard_in_the_first_level_does_not_match_dollar_topics() {
        for filter in ["#", "+/monitor/Clients", "+/#"] {
            assert!(!matches(filter, "$SYS/monitor/Clients"), "{filter}");
        }
        assert!(matches("$SYS/#", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS"));
        assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
        assert!(matches("a/+", "a/$b"));
    }
}
