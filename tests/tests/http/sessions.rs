//! Sessions and devices, of whose they are.

use serde_json::json;
use tidings_core::codec::{Connect, ReasonCode, Version};
use tidings_core::message::QoS;
use tidings_tests::{RawClient, clean};

use crate::caller::{As, Http, with_accounts};

#[test]
fn sessions_are_listed_looked_at_and_ended_by_whose_they_are_and_by_administrators() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[]), ("eve", &[])]);
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, "correct horse"));
    let laptop = Connect {
        username: Some("bob"),
        password: Some(b"correct horse"),
        ..clean(Version::V5, "laptop")
    };
    let mut laptop = RawClient::connect(broker.tcp(), &laptop);
    assert_eq!(
        laptop.subscribe("chat/#", QoS::AtLeastOnce),
        ReasonCode::GrantedQoS1
    );
    let found = bob.get("/v1/sessions/laptop").json();
    let (user, protocol) = (&found["user"], &found["protocol"]);
    assert_eq!(
        (user, protocol, &found["connected"]),
        (&json!("bob"), &json!("5.0"), &json!(true))
    );
    assert_eq!(found["filters"], json!(["chat/#"]));
    let ids = |who: &Http, query: &str| -> Vec<String> {
        let json = who.get(&format!("/v1/sessions{query}")).json();
        let sessions = json["sessions"].as_array().unwrap();
        let ids = sessions
            .iter()
            .map(|one| one["client_id"].as_str().unwrap().to_owned());
        ids.filter(|id| !id.starts_with('$')).collect()
    };
    assert_eq!(ids(&bob, ""), ["laptop"]);
    assert_eq!(ids(&eve, ""), [""; 0]);
    assert_eq!(ids(&ann, "?user=bob"), ["laptop"]);
    assert_eq!(ids(&ann, "?all=true"), ["laptop"]);
    for query in ["?all=true", "?user=bob"] {
        assert_eq!(
            eve.get(&format!("/v1/sessions{query}")).code(),
            "not_allowed"
        );
    }
    assert_eq!(eve.get("/v1/sessions/laptop").code(), "not_found");
    assert_eq!(eve.delete("/v1/sessions/laptop").code(), "not_found");
    assert_eq!(bob.delete("/v1/sessions/laptop").status, 204);
    let goodbye = laptop.expect_disconnect();
    assert_eq!(goodbye.reason, ReasonCode::AdministrativeAction);
}

#[test]
fn a_device_is_added_used_and_revoked_by_its_owner() {
    let broker = with_accounts(&[("ann", &["admin"]), ("bob", &[]), ("eve", &[])]);
    let http = Http::new(&broker);
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| http.sign_in(user, "correct horse"));
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "phone" })).code(),
        "bad_request"
    );
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "eve-phone" }))
            .code(),
        "bad_request"
    );
    let made = bob.post("/v1/devices", json!({ "device": "bob-phone" }));
    assert_eq!(made.status, 201, "{}", made.text);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(
        bob.post("/v1/devices", json!({ "device": "bob-phone" }))
            .code(),
        "exists"
    );
    let listed = bob.get("/v1/devices");
    assert_eq!(listed.json()["devices"][0]["device"], "bob-phone");
    assert!(!listed.text.contains(&token));
    assert_eq!(eve.get("/v1/devices").json()["devices"], json!([]));
    assert_eq!(eve.get("/v1/devices?all=true").code(), "not_allowed");
    assert_eq!(
        ann.get("/v1/devices?all=true").json()["devices"][0]["owner"],
        "bob"
    );
    // It signs in with its token, and the login it gets ends with it.
    let basic = http.as_(As::Basic("bob-phone".into(), token.clone()));
    let phone = http.sign_in("bob-phone", &token);
    for device in [&basic, &phone] {
        assert_eq!(device.get("/v1/me").json()["user"], "bob-phone");
    }
    assert_eq!(
        phone
            .post("/v1/devices", json!({ "device": "bob-phone-2" }))
            .code(),
        "not_allowed"
    );
    assert_eq!(eve.delete("/v1/devices/bob-phone").code(), "not_found");
    assert_eq!(bob.delete("/v1/devices/bob-phone").status, 204);
    assert_eq!(basic.get("/v1/me").status, 401);
    assert_eq!(phone.get("/v1/me").code(), "not_authorized");
    assert_eq!(bob.delete("/v1/devices/bob-phone").code(), "not_found");
}
