//! A network for simulations: requests come out as values, and wait for the answer
//! that the simulation decides on.

use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::oneshot;

use crate::id::Lane;
use crate::model::{FailureCode, Outgoing};

use super::{Answer, Call, Client, Exchange, Failure, Options, Roots, Shared, TlsError};

/// A request on the wire.
pub(crate) struct Sent {
    pub(crate) lane: Lane,
    pub(crate) request: Outgoing,
    /// When it is given up.
    pub(crate) timeout: std::time::Duration,
    reply: oneshot::Sender<Exchange>,
}

/// What was sent and is not taken up yet.
#[derive(Clone, Default)]
pub(crate) struct Network(Arc<Mutex<Vec<Sent>>>);

impl Network {
    pub(super) async fn exchange(&self, call: Call<'_>) -> Exchange {
        let (reply, answer) = oneshot::channel();
        let sent = Sent { lane: call.lane, request: call.request, timeout: call.timeout, reply };
        self.0.lock().unwrap().push(sent);
        match answer.await {
            Ok(exchange) => exchange,
            // The simulation is over.
            Err(_) => std::future::pending().await,
        }
    }

    /// What was sent since, in order.
    pub(crate) fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Sent {
    /// The receiver answers.
    pub(crate) fn answer(self, took: std::time::Duration, status: u16, retry_after: Option<String>) {
        let body = bytes::Bytes::from_static(b"an answer");
        self.end(took, Ok(Answer { status, retry_after, body }));
    }

    /// No answer comes.
    pub(crate) fn fail(self, took: std::time::Duration, code: FailureCode) {
        self.end(took, Err(Failure::new(code, "simulated")));
    }

    fn end(self, duration: std::time::Duration, result: Result<Answer, Failure>) {
        // Nobody waits where the daemon has ended.
        let _ = self.reply.send(Exchange { duration, result });
    }
}

impl Client {
    /// A client whose requests go to `network`.
    pub(crate) fn simulated(options: Options, network: &Network) -> Result<Client, TlsError> {
        // Some authority it must trust, though it dials nobody.
        static AUTHORITY: OnceLock<String> = OnceLock::new();
        let authority = AUTHORITY.get_or_init(|| {
            let made = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
            made.cert.pem()
        });
        let shared = Shared::new(options, &Roots::Pem(authority.clone()))?;
        Ok(Client(Arc::new(Shared { simulated: Some(network.clone()), ..shared })))
    }
}
