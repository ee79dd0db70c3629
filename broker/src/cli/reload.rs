//! Settings that are read again while the broker runs, on SIGHUP: all of them, or nothing.
//!
//! Topic rules and [tls] are what can change; files that [tls] names are read again in any case. If the settings cannot be read, or another section differs
//! from what the broker was started with, everything stays as it was, and the log says why.

use tidings_broker::Running;
use tidings_config::Settings;

use super::compose;

/// Takes over new settings; gives what counts from now on.
///
/// # Errors
/// What keeps them from being taken over, a line each; nothing has changed then.
pub(super) fn reload(
    broker: &Running,
    running: &Settings,
    wanted: anyhow::Result<Settings>,
) -> Result<Settings, String> {
    let wanted = wanted.map_err(|error| format!("{error:#}"))?;
    let fixed = fixed_sections_that_differ(running, &wanted);
    if !fixed.is_empty() {
        let fixed = fixed.join(", ");
        return Err(format!(
            "only [[topics]] and [tls] can change while the broker runs; restart it to change {fixed}"
        ));
    }
    if running.tls.is_used() != wanted.tls.is_used() {
        return Err("restart the broker to begin or end TLS".to_owned());
    }
    let rules = compose::rules(&wanted.topics)?;
    // What can fail comes first.
    if let Some(tls) = compose::tls_options(&wanted.tls) {
        broker
            .replace_tls(tls)
            .map_err(|error| format!("[tls] {error}"))?;
    }
    broker.replace_rules(rules);
    Ok(wanted)
}

fn fixed_sections_that_differ(running: &Settings, wanted: &Settings) -> Vec<&'static str> {
    let Settings {
        server,
        listeners,
        auth,
        rooms,
        people,
        jwt,
        auth_hook,
        http,
        websocket,
        mqtt,
        limits,
        journal,
        state,
        tls: _,
        topics: _,
        bridges,
        log,
        sys,
        audit,
        otel,
    } = running;
    [
        ("[server]", *server == wanted.server),
        ("[[listeners]]", *listeners == wanted.listeners),
        ("[auth]", *auth == wanted.auth),
        ("[rooms]", *rooms == wanted.rooms),
        ("[people]", *people == wanted.people),
        ("[jwt]", *jwt == wanted.jwt),
        ("[auth_hook]", *auth_hook == wanted.auth_hook),
        ("[http]", *http == wanted.http),
        ("[websocket]", *websocket == wanted.websocket),
        ("[mqtt]", *mqtt == wanted.mqtt),
        ("[limits]", *limits == wanted.limits),
        ("[journal]", *journal == wanted.journal),
        ("[state]", *state == wanted.state),
        ("[[bridges]]", *bridges == wanted.bridges),
        ("[log]", *log == wanted.log),
        ("[sys]", *sys == wanted.sys),
        ("[audit]", *audit == wanted.audit),
        ("[otel]", *otel == wanted.otel),
    ]
    .into_iter()
    .filter_map(|(section, is_same)| (!is_same).then_some(section))
    .collect()
}
