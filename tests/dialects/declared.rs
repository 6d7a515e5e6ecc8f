//! Webhooks that files declare: each vendor's API shows them, and refuses to change them in
//! the vendor's own form.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::daemon;

const ON: &str = "[dialects.peridio]\nenabled = true\n[dialects.pdk]\nenabled = true\n\
                  [dialects.blynk]\nenabled = true\n[dialects.ferriskey]\nenabled = true\n";
const DECLARED: &str = r#"
[organizations.acme]
[subscriptions.of-peridio]
format = "peridio"
url = "https://receiver.example"
events = ["peridio.device.connected"]
[subscriptions.of-pdk]
organization = "acme"
format = "pdk"
url = "https://receiver.example"
events = ["door.request.allowed"]
[subscriptions.of-blynk]
format = "blynk"
url = "https://receiver.example"
events = ["blynk.device.added"]
[subscriptions.of-ferriskey]
organization = "acme"
format = "ferriskey"
url = "https://receiver.example"
events = ["user.created"]
"#;

#[tokio::test]
async fn each_vendors_api_refuses_what_files_own_in_its_own_form() {
    let daemon = daemon(ON).await;
    let folder = daemon.folder().join("subscriptions.d");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("all.toml");
    std::fs::write(&file, DECLARED).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    daemon.try_reload(&format!("[service]\ndeclared_in = \"subscriptions.d\"\n{ON}")).await.expect("in force");

    let all = daemon.get("/v1/subscriptions").await.expect(200)["data"].clone();
    let declared = |key: &str| all.as_array().unwrap().iter().find(|it| it["declared_as"] == key).unwrap();
    let id = |key: &str| declared(key)["id"].as_str().unwrap().to_owned();
    let message = "the settings are managed by configuration files";
    let peridio = format!("/peridio/webhooks/prn:1:default:webhook:{}", id("of-peridio"));
    let pdk = format!("/pdk/api/ous/acme/hooks/{}", id("of-pdk"));
    let blynk = format!("/blynk/api/v1/organization/webhook?webhookId={}", declared("of-blynk")["number"]);
    let ferriskey = format!("/ferriskey/realms/acme/webhooks/{}", id("of-ferriskey"));
    let whole = json!({
        "name": "other", "url": "https://receiver.example", "scope": "ou", "authentication": {"type": "None"},
        "events": ["door.request.allowed"], "active": true, "sslVerification": true, "secrecyLevel": 1,
    });
    let webhook = json!({"name": "other", "endpoint": "https://receiver.example", "subscribers": ["user.created"]});
    for (path, method, body, status, told) in [
        (&peridio, "PATCH", json!({"description": "other"}), 409, json!({"errors": {"detail": message}})),
        (&pdk, "PUT", whole, 400, json!({"message": message})),
        (&blynk, "PUT", json!({"name": "other"}), 400, json!({"error": {"message": message}})),
        (&ferriskey, "PUT", webhook, 409, json!({"code": "E_CONFLICT", "status": 409, "message": message})),
    ] {
        daemon.get(path).await.expect(200);
        assert_eq!(daemon.call(method, path, body).await.expect(status), told, "{method} {path}");
        assert_eq!(daemon.call("DELETE", path, Value::Null).await.expect(status), told, "DELETE {path}");
    }
    assert_eq!(daemon.get("/v1/subscriptions").await.expect(200)["data"], all, "nothing changed");

    // Run-time state is not the files'.
    daemon.call("PATCH", &peridio, json!({"state": "disabled"})).await.expect(200);
    daemon.call("PUT", &blynk, json!({"status": "DISABLED"})).await.expect(200);
    for key in ["of-peridio", "of-blynk"] {
        let path = format!("/v1/subscriptions/{}", id(key));
        assert_eq!(daemon.get(&path).await.expect(200)["status"], "disabled", "{key}");
    }
}
