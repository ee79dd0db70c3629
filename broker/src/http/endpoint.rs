//! The table of endpoints: method, path, who answers, and what the document says of it.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::Api;

/// A parameter of the query.
pub(crate) struct Query {
    pub name: &'static str,
    /// A type of JSON Schema.
    pub kind: &'static str,
    pub text: &'static str,
}

/// An answer that is no error.
pub(crate) struct Answer {
    pub status: u16,
    pub text: &'static str,
    /// Name of a schema; empty: there is no body.
    pub schema: &'static str,
    pub content_type: &'static str,
}

/// One method of one path.
pub(crate) struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub handler: MethodRouter<Api>,
    pub summary: &'static str,
    /// Nobody has to sign in.
    pub is_open: bool,
    /// Name of the body's schema; empty: there is none.
    pub takes: &'static str,
    /// A body of any type is taken as it is.
    pub takes_bytes: bool,
    pub query: Vec<Query>,
    pub answers: Vec<Answer>,
}

macro_rules! methods {
    ($($name:ident, $filter:ident;)*) => {$(
        /// An endpoint of this method.
        pub(crate) fn $name<H: Handler<T, Api>, T: 'static>(
            path: &'static str,
            handler: H,
            summary: &'static str,
        ) -> Endpoint {
            let handler = on(MethodFilter::$filter, handler);
            Endpoint::new(stringify!($name), path, handler, summary)
        }
    )*};
}

methods! {
    get, GET;
    post, POST;
    put, PUT;
    patch, PATCH;
    delete, DELETE;
}

impl Endpoint {
    fn new(
        method: &'static str,
        path: &'static str,
        handler: MethodRouter<Api>,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            handler,
            summary,
            is_open: false,
            takes: "",
            takes_bytes: false,
            query: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Nobody has to sign in.
    pub fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// It takes JSON of a schema.
    pub fn takes(mut self, schema: &'static str) -> Self {
        self.takes = schema;
        self
    }

    /// It takes a body of any type, too.
    pub fn takes_bytes(mut self) -> Self {
        self.takes_bytes = true;
        self
    }

    /// It has a parameter in the query.
    pub fn query(mut self, name: &'static str, kind: &'static str, text: &'static str) -> Self {
        self.query.push(Query { name, kind, text });
        self
    }

    /// It answers JSON of a schema.
    pub fn answers(self, status: u16, text: &'static str, schema: &'static str) -> Self {
        self.answers_with(status, text, schema, "application/json")
    }

    /// It answers something else.
    pub fn answers_with(
        mut self,
        status: u16,
        text: &'static str,
        schema: &'static str,
        content_type: &'static str,
    ) -> Self {
        self.answers.push(Answer {
            status,
            text,
            schema,
            content_type,
        });
        self
    }

    /// It answers that it is done.
    pub fn answers_nothing(self) -> Self {
        self.answers(204, "Done", "")
    }
}
