//! The API over TLS and over a Unix socket, with the command line as the caller.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::daemon::{Daemon, Home, run, text};
use crate::support::receiver::Authority;

#[tokio::test]
async fn with_a_certificate_the_api_answers_over_tls_alone() {
    let home = Home::new();
    let authority = Authority::unknown();
    let identity = authority.identity();
    let [cert, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|name| home.path(name));
    std::fs::write(&cert, identity.cert_pem).expect("written");
    std::fs::write(&key, &identity.key_pem).expect("written");
    std::fs::write(&ca, &authority.pem).expect("written");
    let more = format!("[service.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", cert.display(), key.display());
    let path = home.configure(&more);

    // A key that everybody can read is none.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let refused = run(&["serve", "--config", path.to_str().expect("text")]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("chmod o="), "{refused:?}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("changed");

    // Nor is one that belongs to another certificate, or none at all.
    let check = async || run(&["check", "--config", path.to_str().expect("text")]).await;
    assert_eq!(check().await.status.code(), Some(0));
    for other in [authority.identity().key_pem.as_str(), "nonsense"] {
        std::fs::write(&key, other).expect("written");
        let refused = check().await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(": service.tls cannot be used: "), "{refused:?}");
    }
    std::fs::write(&key, &identity.key_pem).expect("written");

    let mut daemon = Daemon::start(&path).await;
    let port = daemon.address.port();
    let https = format!("https://localhost:{port}");
    let fine = run(&["status", "--json", "--url", &https, "--ca-file", ca.to_str().expect("text")]).await;
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    let shown: Value = serde_json::from_slice(&fine.stdout).expect("JSON");
    assert_eq!(shown["ready"], true);
    for words in [&["status", "--url", &https][..], &["status", "--url", &format!("http://localhost:{port}")]] {
        assert_eq!(run(words).await.status.code(), Some(3), "{words:?}");
    }
    assert_eq!(daemon.stop().await.code(), Some(0));
}

#[tokio::test]
async fn the_unix_socket_is_its_owners_alone_and_answers() {
    let home = Home::new();
    let socket = home.path("api.sock");
    let path = home.configure("");
    let listen = format!("unix:{}", socket.display());
    let variables = [("POSTHASTE_SERVICE_LISTEN", listen.as_str())];
    let mut daemon = Daemon::start_with(&path, &variables).await;
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let words = ["publish", "--type", "a.b", "--json", "--socket", socket.to_str().expect("text")];
    let output = run(&words).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // Spelled as in the configuration, as POSTHASTE_URL has it where the socket is all there is.
    assert_eq!(run(&["status", "--url", &listen]).await.status.code(), Some(0));
    daemon.stop().await;
    assert_eq!(run(&words).await.status.code(), Some(3));
    // What a stop or a crash left behind is no obstacle.
    let daemon = Daemon::start_with(&path, &variables).await;
    assert_eq!(run(&words).await.status.code(), Some(0));
    daemon.kill().await;
    let _daemon = Daemon::start_with(&path, &variables).await;
    assert_eq!(run(&words).await.status.code(), Some(0));
}
