//! The roof: the load generator against the receiver, with nothing in between. What
//! hyper can do on this machine at this moment.

use crate::load::{Load, Pace};
use crate::receiver::{Mode, Receiver};

/// Connections of every load that goes as fast as it can.
pub(crate) const CONNECTIONS: usize = 64;

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
