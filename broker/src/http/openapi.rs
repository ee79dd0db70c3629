//! What the API is, as an OpenAPI document made of the table of endpoints: `/v1/openapi.json`.

use std::sync::LazyLock;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{Endpoint, get, reply};

mod schemas;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/openapi.json", document_now, "This document")
            .open()
            .answers(200, "An OpenAPI 3.1 document", "Any"),
    ]
}

async fn document_now() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document(&super::endpoints()).to_string());
    reply::with(StatusCode::OK, "application/json", TEXT.as_str())
}

/// The document of these endpoints.
fn document(endpoints: &[Endpoint]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in endpoints {
        let path = paths
            .entry(endpoint.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(path) = path.as_object_mut() {
            path.insert(endpoint.method.to_owned(), operation(endpoint));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Rooms, messages and people over HTTP. Whoever asks is judged by the topic \
                rules and services that judge clients of MQTT. Times are milliseconds since 1970.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "cookie": [] }, { "basic": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "The token of /v1/login, or a signed token that the broker trusts" },
                "cookie": { "type": "apiKey", "in": "cookie", "name": super::caller::COOKIE, "description": "Set by /v1/login. What changes something then needs the header Origin of this host, or X-Tidings: 1" },
                "basic": { "type": "http", "scheme": "basic", "description": "Name and password, or a device and its token" },
            },
        },
    })
}

fn operation(endpoint: &Endpoint) -> Value {
    let reference = |schema: &str| match schema {
        "" => json!({}),
        schema => json!({ "$ref": format!("#/components/schemas/{schema}") }),
    };
    let names = endpoint.path.split('/').filter_map(|level| {
        let name = level.strip_prefix('{')?.strip_suffix('}')?;
        Some(
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }),
        )
    });
    let query = endpoint.query.iter().map(|query| {
        json!({
            "name": query.name,
            "in": "query",
            "description": query.text,
            "schema": { "type": query.kind },
        })
    });
    let parameters: Vec<Value> = names.chain(query).collect();
    let mut responses = Map::new();
    for answer in &endpoint.answers {
        let mut response = json!({ "description": answer.text });
        if !answer.schema.is_empty() {
            response["content"] =
                json!({ answer.content_type: { "schema": reference(answer.schema) } });
        }
        responses.insert(answer.status.to_string(), response);
    }
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "It was not done",
            "content": { "application/json": { "schema": reference("Problem") } },
        }),
    );
    let tag = match endpoint.path.strip_prefix("/v1/") {
        Some(path) => match path.split('/').next().unwrap_or_default() {
            "login" | "logout" | "me" => "signing in",
            "openapi.json" | "docs" => "about",
            first => first,
        },
        None => "broker",
    };
    let mut operation = json!({
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint),
        "tags": [tag],
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let mut content = Map::new();
    if !endpoint.takes.is_empty() {
        content.insert(
            "application/json".to_owned(),
            json!({ "schema": reference(endpoint.takes) }),
        );
    }
    if endpoint.takes_bytes {
        content.insert("*/*".to_owned(), json!({}));
    }
    if !content.is_empty() {
        operation["requestBody"] = json!({ "content": content });
    }
    if endpoint.is_open {
        operation["security"] = json!([]);
    }
    operation
}

/// `get_rooms_room_members`: unique, since method and path are.
fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.trim_start_matches("/v1/");
    let words = path
        .split(['/', '{', '}', '-', '.'])
        .filter(|word| !word.is_empty());
    std::iter::once(endpoint.method)
        .chain(words)
        .collect::<Vec<_>>()
        .join("_")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` in a document.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value.as_str() {
                        Some(text) if key == "$ref" => {
                            found.insert(text);
                        }
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(array) => array.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_schema_that_is_named_is_there_and_every_one_that_is_there_is_named() {
        let document = document(&crate::http::endpoints());
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        let there = document["components"]["schemas"].as_object().unwrap();
        let there: BTreeSet<String> = there
            .keys()
            .map(|name| format!("#/components/schemas/{name}"))
            .collect();
        let named: BTreeSet<String> = named.into_iter().map(str::to_owned).collect();
        assert_eq!(named, there);
    }

    #[test]
    fn every_endpoint_is_in_the_document_once_and_says_what_it_answers() {
        let endpoints = crate::http::endpoints();
        let document = document(&endpoints);
        let paths = document["paths"].as_object().unwrap();
        let operations: usize = paths
            .values()
            .map(|path| path.as_object().unwrap().len())
            .sum();
        assert_eq!(operations, endpoints.len(), "two endpoints are the same");
        let ids: BTreeSet<String> = endpoints.iter().map(operation_id).collect();
        assert_eq!(ids.len(), endpoints.len());
        for endpoint in &endpoints {
            let operation = &paths[endpoint.path][endpoint.method];
            assert!(
                !endpoint.answers.is_empty(),
                "{} {}",
                endpoint.method,
                endpoint.path
            );
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        }
    }
}
