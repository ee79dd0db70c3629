//! A broker inside of a program: start it, print where it listens, stop it with Ctrl-C.
//!
//! `cargo run --example embed -- DATA_DIR`, and then `mosquitto_sub -t '#' -v -p PORT`.

use std::net::{Ipv4Addr, SocketAddr};

use tidings_broker::listener::Kind;
use tidings_broker::{Broker, BrokerOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data_dir = std::env::args()
        .nth(1)
        .ok_or("which folder shall the data go to?")?;
    let free_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // One port for MQTT, MQTT over WebSocket and HTTP; everyone may use every topic.
    let options = BrokerOptions::new(data_dir).listen(Kind::Auto, free_port);

    let broker = Broker::start(options)?;
    for address in broker.addresses(Kind::Auto) {
        eprintln!("listening on {address}");
    }
    broker.set_system_value("$SYS/example", "embedded");

    tokio::signal::ctrl_c().await?;
    broker.shutdown().await?;
    Ok(())
}
