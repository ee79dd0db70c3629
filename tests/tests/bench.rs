//! Each shape of the comparison benchmark, small, against our own broker: every delivery is verified
//! by its sequence number, and nothing is lost, doubled or out of order. Speed is no matter here.

use std::net::SocketAddr;
use std::time::Duration;

use tidings_devices::bench::load::{self, Settings};
use tidings_devices::bench::scenario::{self, Scenario, Shape};
use tidings_devices::bench::target::{Carrier, Target, Usage};
use tidings_tests::{TidingsOptions, TidingsProcess};

/// Our broker, as the load generator sees it.
struct OurBroker(TidingsProcess);

impl Target for OurBroker {
    fn name(&self) -> &str {
        "tidings"
    }

    fn address(&self, carrier: Carrier) -> Option<SocketAddr> {
        Some(match carrier {
            Carrier::Tcp => self.0.tcp().address(),
            Carrier::WebSocket => self.0.ws().address(),
        })
    }

    fn websocket_path(&self) -> &str {
        "/mqtt"
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        self.0.kill();
        self.0.restart();
        Ok(())
    }
}

fn run_all(shards: u32, scenarios: &[Scenario]) {
    let mut broker = OurBroker(TidingsOptions::new().set("server.shards", shards).start());
    let settings = Settings {
        warm_up: Duration::from_millis(20),
        measure: Duration::from_millis(150),
        cores: None,
        threads: 2,
    };
    for scenario in scenarios {
        let name = &scenario.name;
        let outcome = load::run(scenario, &mut broker, &settings, &|_| ())
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let wrong = (outcome.lost, outcome.doubled, outcome.out_of_order);
        assert_eq!(wrong, (0, 0, 0), "{name}: lost, doubled, out of order");
        if !matches!(scenario.shape, Shape::Idle { .. }) {
            assert!(outcome.delivered > 0, "{name}: nothing was delivered");
        }
        assert_eq!(outcome.remarks, [""; 0], "{name}");
    }
}

#[test]
fn each_scenario_delivers_everything_once_and_in_order() {
    run_all(1, &scenario::short());
}

#[test]
fn each_scenario_delivers_everything_once_and_in_order_on_two_shards() {
    run_all(2, &scenario::short());
}
