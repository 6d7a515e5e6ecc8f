//! Many endpoints on one listener: every address in 127.0.0.0/8 leads to it, so each
//! endpoint is a host of its own. Counts what came, by path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::PATIENCE;

/// The status for a path.
type Answers = Arc<dyn Fn(&str) -> u16 + Send + Sync>;

pub(crate) struct Crowd {
    port: u16,
    requests: Arc<Mutex<HashMap<String, usize>>>,
    arrived: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Crowd {
    pub(crate) async fn answering(answers: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Crowd {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (arrived, answers): (Arc<Notify>, Answers) = (Arc::default(), Arc::new(answers));
        let (seen, notify) = (requests.clone(), arrived.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(serve(stream, seen.clone(), notify.clone(), answers.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Crowd { port, requests, arrived, task }
    }

    /// The endpoint of that number, on an address of its own.
    pub(crate) fn url(&self, number: usize) -> String {
        format!("http://127.1.{}.{}:{}/{number}", number / 250, number % 250 + 1, self.port)
    }

    pub(crate) fn total(&self) -> usize {
        self.requests.lock().unwrap().values().sum()
    }

    /// Waits until so many requests came.
    pub(crate) async fn reaches(&self, total: usize) {
        while self.total() < total {
            let arrived = self.arrived.notified();
            if tokio::time::timeout(PATIENCE, arrived).await.is_err() {
                panic!("{} requests came, and no more within {PATIENCE:?}", self.total());
            }
        }
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<HashMap<String, usize>>>, notify: Arc<Notify>, answers: Answers) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
            (body.len() >= length).then(|| head.split(' ').nth(1).unwrap_or_default().to_owned())
        });
        let Some(path) = whole else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        bytes.clear();
        let status = answers(&path);
        *seen.lock().unwrap().entry(path).or_default() += 1;
        notify.notify_one();
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
