//! Events that were accepted: one with its deliveries, and what is not there.

use serde_json::json;

use crate::support::{Daemon, Receiver};

#[tokio::test]
async fn an_event_is_shown_with_its_deliveries() {
    let daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let first = daemon.subscribe(json!({"url": receiver.url})).await;
    let second = daemon.subscribe(json!({"url": receiver.url, "events": ["door.*"]})).await;
    let published = daemon.publish("door.opened", json!(1)).await;
    assert_eq!(published["deliveries"], 2);
    let path = format!("/v1/events/{}", published["id"].as_str().unwrap());
    let shown = daemon
        .until(&path, |event| {
            event["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["state"] == "delivered")
        })
        .await;
    let deliveries = shown["deliveries"].as_array().unwrap();
    let subscriptions: Vec<_> = deliveries.iter().map(|delivery| &delivery["subscription"]).collect();
    assert_eq!(subscriptions, [&first["id"], &second["id"]]);
    for delivery in deliveries {
        assert_eq!(delivery["event"], json!({"id": published["id"], "type": "door.opened"}));
        assert_eq!((&delivery["organization"], &delivery["attempts"]), (&json!("default"), &json!(1)));
        let alone = daemon.get(&format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap())).await.expect(200);
        assert_eq!((&alone["state"], &alone["event"]), (&delivery["state"], &delivery["event"]));
    }
}

#[tokio::test]
async fn an_event_that_is_not_there_is_not_found() {
    let daemon = Daemon::start().await;
    for id in ["0", "nonsense", "01890a5d-ac96-774b-bcce-b302099a8057", "batch"] {
        let answer = daemon.get(&format!("/v1/events/{id}")).await;
        if id == "batch" {
            answer.refused(405, "method_not_allowed");
        } else {
            answer.refused(404, "not_found");
        }
    }
}
