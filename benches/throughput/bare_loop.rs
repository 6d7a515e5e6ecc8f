//! The roof: the load generator against the receiver, with nothing in between. What
//! hyper can do on this machine at this moment.

use crate::load::{Load, Pace};
use crate::pause;
use crate::receiver::{Mode, Receiver};

/// Connections of every load that goes as fast as it can.
pub(crate) const CONNECTIONS: usize = 64;

/// Has `work` done, and answers the roof beside what it made: the mean of what it was for half
/// of that time before and for the other half after, because a machine that is shared is not as
/// fast a few seconds later.
pub(crate) async fn around<T>(seconds: f64, work: impl Future<Output = T>) -> (f64, T) {
    let before = per_second(seconds / 2.0).await;
    let made = work.await;
    // What the daemon has left to do after that must not slow the roof.
    pause().await;
    let after = per_second(seconds / 2.0).await;
    ((before + after) / 2.0, made)
}

/// Requests a second over that time.
pub(crate) async fn per_second(seconds: f64) -> f64 {
    let mut receiver = Receiver::start(Mode::Well).await;
    let load = Load {
        to: receiver.address(0),
        path: "/hooks".to_owned(),
        event_type: "bench.event".to_owned(),
        events_per_request: 1,
        connections: CONNECTIONS,
        pace: Pace::For(seconds),
    };
    let published = load.run().await;
    assert_eq!(receiver.count().await, published.events, "all arrived");
    published.per_second()
}
