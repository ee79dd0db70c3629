//! Which part of the topics a Topic Filter can match at all: so that a filter that begins with
//! literal levels does not look at every retained message.
//!
//! Works on the order of keys only, and does not know where they are kept.

/// The keys to look at for a plain Topic Filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Search<'a> {
    /// A single topic: the filter itself, or the parent level of `.../#`.
    pub(super) exact: Option<&'a str>,
    /// Every topic that begins so, and still must be matched.
    pub(super) prefix: Option<&'a str>,
}

impl<'a> Search<'a> {
    pub(super) fn of(filter: &'a str) -> Self {
        let Some(wildcard) = filter.find(['+', '#']) else {
            return Self {
                exact: Some(filter),
                prefix: None,
            };
        };
        let (prefix, rest) = filter.split_at(wildcard);
        let parent = prefix.strip_suffix('/').filter(|_| rest == "#");
        Self {
            exact: parent,
            prefix: Some(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_searched_below_its_literal_levels_only() {
        for (filter, exact, prefix) in [
            ("a/b", Some("a/b"), None),
            ("a/+/c", None, Some("a/")),
            ("a/+/#", None, Some("a/")),
            ("a/b/#", Some("a/b"), Some("a/b/")),
            ("/#", Some(""), Some("/")),
            ("#", None, Some("")),
            ("+", None, Some("")),
        ] {
            assert_eq!(Search::of(filter), Search { exact, prefix }, "{filter}");
        }
    }
}
