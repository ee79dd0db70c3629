//! How a command reaches the accounts of a data directory: through the control socket of the broker
//! that holds it, or, if none does, by opening the store itself.

use std::path::Path;

use anyhow::Context as _;
use tidings_broker::audit::Actor;
use tidings_broker::control::{self, Reply, Request};
use tidings_broker::{Broker, BrokerOptions};
use tidings_config::Settings;

use super::{compose, owner};

/// Asks, and gives any answer but an error.
///
/// # Errors
/// Of the request, of the connection, or of the store.
pub(super) fn ask(settings: &Settings, request: &Request) -> anyhow::Result<Reply> {
    let data_dir = &settings.server.data_dir;
    let reply = control::ask(data_dir, request)
        .with_context(|| format!("the broker in {} does not answer", data_dir.display()))?;
    let reply = match reply {
        Some(reply) => reply,
        None => {
            let actor = Actor::command_line();
            owner::as_owner(data_dir, || {
                ask_the_store(settings, data_dir, &actor, request)
            })?
        }
    };
    match reply {
        Reply::Error(error) => Err(anyhow::Error::msg(error)),
        reply => Ok(reply),
    }
}

/// A broker without listeners, for as long as one request takes: everything that a running one does
/// with the data directory is done in the same way.
fn ask_the_store(
    settings: &Settings,
    data_dir: &Path,
    actor: &Actor,
    request: &Request,
) -> anyhow::Result<Reply> {
    let options = BrokerOptions {
        listeners: Vec::new(),
        shards: 1,
        system_interval: None,
        ..compose::broker_options(settings).map_err(anyhow::Error::msg)?
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let broker = Broker::start(options)
            .with_context(|| format!("cannot open {}", data_dir.display()))?;
        let reply = control::execute(&broker, actor, request.clone()).await;
        broker.shutdown().await?;
        anyhow::Ok(reply)
    })
}
