//! Asking the engine whether it still goes round. Only its loop answers, so that an
//! answer is proof of a round made, and silence of one that is not.

use tokio::sync::{mpsc, oneshot};

/// Asks; cheap to clone.
#[derive(Clone)]
pub struct Pulse(mpsc::Sender<oneshot::Sender<u32>>);

/// Where the engine is asked.
pub(crate) type Asked = mpsc::Receiver<oneshot::Sender<u32>>;

impl Pulse {
    pub(crate) fn new() -> (Pulse, Asked) {
        let (sender, asked) = mpsc::channel(1);
        (Pulse(sender), asked)
    }

    /// Waits for the engine's next round. Answers how many attempts are in flight;
    /// `None` once there is no engine.
    pub async fn beat(&self) -> Option<u32> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}
