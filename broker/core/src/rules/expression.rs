//! Who may do it: expressions such as `self(user) & member(room)`.
//!
//! ```text
//! any  = all { "|" all }
//! all  = not { "&" not }
//! not  = "!" not | "(" any ")" | atom
//! atom = "any" | "none" | "signed_in" | "anonymous" | "broker"
//!      | ("self" | "member" | "writer" | "paced" | "roster" | "moderator" | "public" | "owner")
//!        "(" capture ")"
//!      | "role" "(" word ")"
//! ```
//!
//! Evaluation is three-valued: for a filter that leaves a capture open, the answer can be
//! "for some topics". For a topic, everything is known, and the answer is yes or no.

use thiserror::Error;

use super::pattern::{Captures, Pattern};
use super::{Identity, IdentityKind, Membership};

/// Deepest nesting of parentheses and `!`: evaluation recurses so deep.
pub const MAX_DEPTH: usize = 32;

/// Why an expression is refused, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("column {column}: {problem}")]
pub struct ExpressionProblem {
    /// Place in the expression, in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: ExpressionFault,
}

/// What is wrong at one place of an expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExpressionFault {
    /// An atom, `!` or `(` was expected.
    #[error("expected a condition such as any, signed_in or self(user), found {0}")]
    ExpectedCondition(String),
    /// The word is no atom.
    #[error(
        "\"{0}\" is no condition; there are any, none, signed_in, anonymous, broker, self(x), \
         member(x), writer(x), paced(x), roster(x), moderator(x), public(x), owner(x), role(word)"
    )]
    UnknownCondition(String),
    /// `(x)` is missing after an atom that needs it.
    #[error("\"{0}\" needs a name from the pattern: {0}(name)")]
    MissingName(String),
    /// The pattern does not capture the name.
    #[error("the pattern does not capture {{{0}}}")]
    NotCaptured(String),
    /// A parenthesis is not closed.
    #[error("expected ), found {0}")]
    ExpectedClose(String),
    /// Something follows the whole expression.
    #[error("expected | or & or the end, found {0}")]
    ExpectedEnd(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} nested parentheses and !")]
    TooDeep,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    AnyOf(Vec<Expression>),
    AllOf(Vec<Expression>),
    Not(Box<Expression>),
    Always,
    Never,
    SignedIn,
    Anonymous,
    Broker,
    /// The client has this role.
    Role(Box<str>),
    About(Relation, usize),
}

/// What a user can be to the room, device or user that a capture names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relation {
    Itself,
    Member,
    /// A member who may write.
    Writer,
    /// Anyone signed in, at the pace that the room asks for: see [`Expression::paced_by`].
    Paced,
    /// A member who sees the other members.
    Roster,
    Moderator,
    Public,
    Owner,
    /// The other one shows who asks whether they are there.
    Visible,
}

/// The answer for all topics that a filter can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    /// For none of them.
    No,
    /// For some of them, perhaps.
    Maybe,
    /// For each of them.
    Yes,
}

impl Truth {
    const fn from_bool(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    const fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

impl Expression {
    pub(super) fn compile(text: &str, pattern: &Pattern) -> Result<Self, ExpressionProblem> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
            pattern,
        };
        let expression = parser.any_of()?;
        match parser.peek() {
            Token::End => Ok(expression),
            found => Err(parser.fault(ExpressionFault::ExpectedEnd(found.to_string()))),
        }
    }

    /// Whether it holds for `who` where the captures are such. The broker itself is not asked:
    /// it may do everything.
    pub(super) fn evaluate(
        &self,
        captures: &Captures<'_>,
        who: &Identity,
        members: &dyn Membership,
    ) -> Truth {
        let each = |part: &Self| part.evaluate(captures, who, members);
        match self {
            Self::AnyOf(parts) => parts.iter().map(each).max().unwrap_or(Truth::No),
            Self::AllOf(parts) => parts.iter().map(each).min().unwrap_or(Truth::Yes),
            Self::Not(part) => each(part).not(),
            Self::Always => Truth::Yes,
            Self::Never => Truth::No,
            Self::SignedIn => Truth::from_bool(who.kind == IdentityKind::User),
            Self::Anonymous => Truth::from_bool(who.kind == IdentityKind::Anonymous),
            Self::Broker => Truth::from_bool(who.kind == IdentityKind::Broker),
            Self::Role(role) => Truth::from_bool(who.has_role(role)),
            &Self::About(relation, capture) => {
                let named = captures.get(capture).copied().flatten();
                relation.holds(named, who, members)
            }
        }
    }
}

impl Expression {
    /// The capture that names the room whose pace counts, if the expression asks for one.
    pub(super) fn paced_by(&self) -> Option<usize> {
        let mut found = None;
        self.for_each_relation(&mut |relation, capture| {
            if matches!(relation, Relation::Paced) {
                found = Some(capture);
            }
        });
        found
    }

    /// The captures that name rooms whose members are asked for.
    pub(super) fn rooms(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.for_each_relation(&mut |relation, capture| {
            if relation.is_about_rooms() {
                found.push(capture);
            }
        });
        found
    }

    fn for_each_relation(&self, visit: &mut dyn FnMut(Relation, usize)) {
        match self {
            Self::AnyOf(parts) | Self::AllOf(parts) => {
                for part in parts {
                    part.for_each_relation(visit);
                }
            }
            Self::Not(part) => part.for_each_relation(visit),
            Self::About(relation, capture) => visit(*relation, *capture),
            Self::Always
            | Self::Never
            | Self::SignedIn
            | Self::Anonymous
            | Self::Broker
            | Self::Role(_) => {}
        }
    }
}

impl Relation {
    const fn is_about_rooms(self) -> bool {
        matches!(
            self,
            Self::Member | Self::Writer | Self::Roster | Self::Moderator
        )
    }

    fn holds(self, named: Option<&str>, who: &Identity, members: &dyn Membership) -> Truth {
        if who.kind != IdentityKind::User && !matches!(self, Self::Public) {
            return Truth::No;
        }
        let Some(named) = named else {
            return Truth::Maybe;
        };
        Truth::from_bool(match self {
            Self::Itself => *who.user == *named,
            Self::Member => {
                members.is_member(&who.user, named)
                    || who.is_let_into(named) && members.admits(&who.user, named, false)
            }
            Self::Writer => {
                members.may_write(&who.user, named)
                    || who.is_let_into(named)
                        && !members.is_member(&who.user, named)
                        && members.admits(&who.user, named, true)
            }
            Self::Paced => true,
            Self::Roster => members.sees_members(&who.user, named),
            Self::Moderator => members.is_moderator(&who.user, named),
            Self::Public => members.is_public(named),
            Self::Owner => members.is_owner(&who.user, named),
            Self::Visible => members.is_visible(&who.user, named),
        })
    }

    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "self" => Self::Itself,
            "member" => Self::Member,
            "writer" => Self::Writer,
            "paced" => Self::Paced,
            "roster" => Self::Roster,
            "moderator" => Self::Moderator,
            "public" => Self::Public,
            "owner" => Self::Owner,
            "visible" => Self::Visible,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(char),
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::Sign(sign) => write!(f, "\"{}\"", sign.escape_default()),
            Self::End => f.write_str("the end"),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Bytes of the text that are read.
    at: usize,
    depth: usize,
    pattern: &'a Pattern,
}

impl<'a> Parser<'a> {
    fn any_of(&mut self) -> Result<Expression, ExpressionProblem> {
        self.chain('|', Self::all_of, Expression::AnyOf)
    }

    fn all_of(&mut self) -> Result<Expression, ExpressionProblem> {
        self.chain('&', Self::not, Expression::AllOf)
    }

    /// One list for a whole chain, so that only parentheses and `!` deepen the tree.
    fn chain(
        &mut self,
        sign: char,
        part: fn(&mut Self) -> Result<Expression, ExpressionProblem>,
        together: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, ExpressionProblem> {
        let first = part(self)?;
        if self.peek() != Token::Sign(sign) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.peek() == Token::Sign(sign) {
            self.take();
            parts.push(part(self)?);
        }
        Ok(together(parts))
    }

    fn not(&mut self) -> Result<Expression, ExpressionProblem> {
        match self.peek() {
            Token::Sign('!') => {
                self.deeper()?;
                self.take();
                let inner = self.not()?;
                self.depth -= 1;
                Ok(Expression::Not(Box::new(inner)))
            }
            Token::Sign('(') => {
                self.deeper()?;
                self.take();
                let inner = self.any_of()?;
                self.close()?;
                self.depth -= 1;
                Ok(inner)
            }
            Token::Word(word) => self.atom(word),
            found => Err(self.fault(ExpressionFault::ExpectedCondition(found.to_string()))),
        }
    }

    fn atom(&mut self, word: &str) -> Result<Expression, ExpressionProblem> {
        let plain = match word {
            "any" => Expression::Always,
            "none" => Expression::Never,
            "signed_in" => Expression::SignedIn,
            "anonymous" => Expression::Anonymous,
            "broker" => Expression::Broker,
            "role" => {
                self.take();
                return self.role();
            }
            _ => {
                let Some(relation) = Relation::named(word) else {
                    return Err(self.fault(ExpressionFault::UnknownCondition(word.to_owned())));
                };
                self.take();
                return Ok(Expression::About(relation, self.capture_of(word)?));
            }
        };
        self.take();
        Ok(plain)
    }

    fn role(&mut self) -> Result<Expression, ExpressionProblem> {
        let missing = || ExpressionFault::MissingName("role".to_owned());
        if self.peek() != Token::Sign('(') {
            return Err(self.fault(missing()));
        }
        self.take();
        let Token::Word(role) = self.peek() else {
            return Err(self.fault(missing()));
        };
        self.take();
        self.close()?;
        Ok(Expression::Role(role.into()))
    }

    fn capture_of(&mut self, atom: &str) -> Result<usize, ExpressionProblem> {
        let missing = || ExpressionFault::MissingName(atom.to_owned());
        if self.peek() != Token::Sign('(') {
            return Err(self.fault(missing()));
        }
        self.take();
        let Token::Word(name) = self.peek() else {
            return Err(self.fault(missing()));
        };
        let Some(capture) = self.pattern.capture(name) else {
            return Err(self.fault(ExpressionFault::NotCaptured(name.to_owned())));
        };
        self.take();
        self.close()?;
        Ok(capture)
    }

    fn close(&mut self) -> Result<(), ExpressionProblem> {
        match self.peek() {
            Token::Sign(')') => {
                self.take();
                Ok(())
            }
            found => Err(self.fault(ExpressionFault::ExpectedClose(found.to_string()))),
        }
    }

    fn deeper(&mut self) -> Result<(), ExpressionProblem> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault(ExpressionFault::TooDeep));
        }
        Ok(())
    }

    /// The next token, with the white space before it skipped.
    fn peek(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let token = rest.trim_start();
        self.at += rest.len() - token.len();
        let word_end = token
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(token.len());
        match token.chars().next() {
            None => Token::End,
            Some(_) if word_end > 0 => Token::Word(&token[..word_end]),
            Some(sign) => Token::Sign(sign),
        }
    }

    fn take(&mut self) {
        self.at += match self.peek() {
            Token::Word(word) => word.len(),
            Token::Sign(sign) => sign.len_utf8(),
            Token::End => 0,
        };
    }

    /// The fault at the token that was peeked last.
    fn fault(&self, problem: ExpressionFault) -> ExpressionProblem {
        let column = self.text[..self.at].chars().count() + 1;
        ExpressionProblem { column, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OpenRooms;
    use super::*;

    fn compile(text: &str) -> Result<Expression, ExpressionProblem> {
        Expression::compile(text, &Pattern::compile("{room}/{user}").expect("a pattern"))
    }

    fn holds(text: &str, user: Option<&str>) -> Truth {
        let mut captures = Captures::default();
        captures[1] = user;
        let alice = Identity::user("alice");
        compile(text)
            .expect(text)
            .evaluate(&captures, &alice, &OpenRooms)
    }

    #[test]
    fn and_binds_more_tightly_than_or_and_not_most_tightly() {
        assert_eq!(holds("any | none & none", None), Truth::Yes);
        assert_eq!(holds("(any | none) & none", None), Truth::No);
        assert_eq!(holds("!none & any", None), Truth::Yes);
        assert_eq!(holds("!(none & any)", None), Truth::Yes);
        assert_eq!(holds("!any | any", None), Truth::Yes);
        assert_eq!(holds("  ! ! signed_in ", None), Truth::Yes);
    }

    #[test]
    fn a_capture_that_is_open_makes_the_answer_maybe() {
        assert_eq!(holds("self(user)", Some("alice")), Truth::Yes);
        assert_eq!(holds("self(user)", Some("bob")), Truth::No);
        assert_eq!(holds("self(user)", None), Truth::Maybe);
        assert_eq!(holds("!self(user)", None), Truth::Maybe);
        assert_eq!(holds("self(user) & none", None), Truth::No);
        assert_eq!(holds("self(user) | any", None), Truth::Yes);
        assert_eq!(holds("self(user) & member(room)", None), Truth::Maybe);
    }

    #[test]
    fn faults_are_named_with_their_column() {
        for (text, column, message) in [
            (
                "",
                1,
                "expected a condition such as any, signed_in or self(user), found the end",
            ),
            ("any any", 5, "expected | or & or the end, found \"any\""),
            (
                "any &",
                6,
                "expected a condition such as any, signed_in or self(user), found the end",
            ),
            (
                "any && any",
                6,
                "expected a condition such as any, signed_in or self(user), found \"&\"",
            ),
            (
                "self",
                5,
                "\"self\" needs a name from the pattern: self(name)",
            ),
            (
                "self()",
                6,
                "\"self\" needs a name from the pattern: self(name)",
            ),
            (
                "any | member(house)",
                14,
                "the pattern does not capture {house}",
            ),
            ("self(_)", 6, "the pattern does not capture {_}"),
            ("self(user", 10, "expected ), found the end"),
            ("(any", 5, "expected ), found the end"),
            ("any)", 4, "expected | or & or the end, found \")\""),
            (
                "ä",
                1,
                "expected a condition such as any, signed_in or self(user), found \"\\u{e4}\"",
            ),
        ] {
            let error = compile(text).expect_err(text);
            assert_eq!(
                error.to_string(),
                format!("column {column}: {message}"),
                "{text}"
            );
        }
        let error = compile("any | sefl(user)").expect_err("a typing error");
        assert_eq!(error.column, 7);
        assert_eq!(
            error.problem,
            ExpressionFault::UnknownCondition("sefl".to_owned())
        );
    }

    #[test]
    fn nesting_is_bounded_and_chains_are_not() {
        let nested = |depth| format!("{}any{}", "(".repeat(depth), ")".repeat(depth));
        assert!(compile(&nested(MAX_DEPTH)).is_ok());
        assert!(compile(&nested(MAX_DEPTH + 1)).is_err());
        assert!(compile(&format!("{}any", "!".repeat(100_000))).is_err());
        assert!(compile(&vec!["any"; 100_000].join(" | ")).is_ok());
        assert!(compile(&vec!["(any)"; 100].join(" & ")).is_ok());
    }
}
