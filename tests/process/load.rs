//! Events published as fast as the daemon takes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::support::within;

/// Connections that publish at the same time.
pub(crate) const PUBLISHERS: u64 = 8;

/// So many events, counted over every daemon that takes some of them.
#[derive(Clone)]
pub(crate) struct Load {
    events: u64,
    next: Arc<AtomicU64>,
    accepted: watch::Sender<u64>,
}

impl Load {
    pub(crate) fn of(events: u64) -> Load {
        Load { events, next: Arc::default(), accepted: watch::channel(0).0 }
    }

    /// Waits until that many were answered 202.
    pub(crate) async fn reaches(&self, count: u64) {
        let mut accepted = self.accepted.subscribe();
        within("the load", accepted.wait_for(|accepted| *accepted >= count)).await.unwrap();
    }

    /// Publishes until the daemon is gone or all are published. Answers the ids of
    /// those that were answered 202.
    pub(crate) async fn publish(&self, address: SocketAddr) -> Vec<String> {
        let mut publishers = tokio::task::JoinSet::new();
        for _ in 0..PUBLISHERS {
            publishers.spawn(self.clone().publish_in_turn(address));
        }
        within("the publishers' end", publishers.join_all()).await.into_iter().flatten().collect()
    }

    /// One after the other, on one connection.
    async fn publish_in_turn(self, address: SocketAddr) -> Vec<String> {
        let mut ids = Vec::new();
        let Ok(stream) = TcpStream::connect(address).await else { return ids };
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
            return ids;
        };
        let connection = tokio::spawn(connection);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.events {
                break;
            }
            let body = json!({"type": "load.event", "data": number}).to_string();
            let request = http::Request::post("/v1/events")
                .header("host", address.to_string())
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let Ok(response) = sender.send_request(request).await else { break };
            let status = response.status();
            // Cut off before its id: nothing to look for.
            let Ok(body) = response.into_body().collect().await else { break };
            assert_eq!(status, 202);
            let answer: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
            ids.push(answer["id"].as_str().unwrap().to_owned());
            self.accepted.send_modify(|count| *count += 1);
        }
        connection.abort();
        ids
    }
}
