//! All rooms: `/v1/admin/rooms`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::place::Query;
use super::super::{Api, Endpoint, Problem, get, reply};
use super::Admin;

const MAX_LISTED: usize = 1000;

const DEFAULT_LISTED: usize = 100;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/v1/admin/rooms", list, "All rooms, without their messages")
            .query("search", "string", "Part of the name")
            .query("after", "string", "Only names after this one")
            .query("limit", "integer", "At most 1000; without it 100")
            .answers(200, "Rooms in the order of names", "Any"),
    ]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    #[serde(default)]
    search: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

async fn list(
    State(api): State<Api>,
    _: Admin,
    Query(asked): Query<Listing>,
) -> Result<Response, Problem> {
    let listed = tokio::task::spawn_blocking(move || rooms(&api, &asked)).await;
    let listed = listed.map_err(|_| Problem::unavailable("the broker is stopping"))?;
    Ok(reply::ok(&listed))
}

fn rooms(api: &Api, asked: &Listing) -> Value {
    let limit = asked.limit.unwrap_or(DEFAULT_LISTED).clamp(1, MAX_LISTED);
    let is_meant = |name: &str| name > &*asked.after && name.contains(&asked.search);
    // Whoever holds the view holds up commits: names first, then each room by itself.
    let mut names: Vec<String> = match &api.rooms {
        Some(rooms) => {
            let view = rooms.view();
            let meant = view.names().filter(|name| is_meant(name));
            meant.map(|name| name.to_string()).collect()
        }
        // Where every name is an open room, rooms are the streams that there are.
        None => {
            let mut names = Vec::new();
            api.state.for_each_stream("chat/", &mut |stream, _| {
                if let Some(name) = stream.strip_prefix("chat/")
                    && is_meant(name)
                {
                    names.push(name.to_owned());
                }
            });
            names
        }
    };
    names.sort_unstable();
    let told: Vec<Value> = names
        .iter()
        .filter_map(|name| describe(api, name))
        .take(limit + 1)
        .collect();
    let more = told.len() > limit;
    let told: Vec<Value> = told.into_iter().take(limit).collect();
    json!({ "rooms": told, "more": more, "managed": api.rooms.is_some() })
}

/// `None`: it is deleted.
fn describe(api: &Api, name: &str) -> Option<Value> {
    let head = api.state.stream_head(&format!("chat/{name}")).0;
    let Some(rooms) = &api.rooms else {
        return Some(json!({ "room": name, "messages": head }));
    };
    let view = rooms.view();
    let record = view.record(name).filter(|record| !record.deleted)?;
    Some(json!({
        "room": name,
        "kind": record.kind.as_str(),
        "title": &*record.title,
        "owner": &*record.owner,
        "archived": record.archived,
        "members": view.member_count(name),
        "messages": head,
    }))
}
