//! Connections that wait for the next request to the same receiver. Nobody watches them:
//! whether the receiver has closed one shows when it is used next, or when the pool is
//! swept.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::later;
use super::tls::Fingerprint;
use crate::config::Proxy;
use crate::limits::{IDLE_CONNECTIONS_MAX, IDLE_CONNECTIONS_PER_ENDPOINT_MAX, IDLE_LOOK_INTERVAL, IDLE_SWEEP_INTERVAL};

/// Which connections are alike.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// The host as the URL has it.
    pub(super) host: Arc<str>,
    /// The port.
    pub(super) port: u16,
    /// The TLS settings; none: plain HTTP.
    pub(super) tls: Option<Fingerprint>,
    /// By whom it is reached; none: directly.
    pub(super) proxy: Option<Proxy>,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

#[derive(Default)]
struct State {
    /// For each endpoint, the one used longest ago first. No list is empty.
    idle: HashMap<Endpoint, VecDeque<Idle>>,
    count: usize,
    is_swept: bool,
}

/// See the module.
pub(super) struct Pool {
    state: Mutex<State>,
    idle_max: usize,
}

impl Pool {
    /// A pool of at most so many connections, and [`IDLE_CONNECTIONS_MAX`].
    pub(super) fn of(idle_max: usize) -> Pool {
        Pool { state: Mutex::default(), idle_max: idle_max.min(IDLE_CONNECTIONS_MAX) }
    }

    /// A connection to `endpoint`, the one used last, whose address `admits` takes: it was
    /// vetted for whoever dialled it, under the policy of that time. Whether it is still
    /// open shows when a request is handed to it.
    pub(super) fn take(&self, endpoint: &Endpoint, admits: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let now = Instant::now();
        let mut state = self.state();
        let list = state.idle.get_mut(endpoint)?;
        // From the end, so that the others are not looked at.
        let usable = |idle: &Idle| now < idle.until && admits(idle.connection.address());
        let found = list.iter().rposition(usable).and_then(|position| list.remove(position))?;
        if list.is_empty() {
            state.idle.remove(endpoint);
        }
        state.count -= 1;
        Some(found.connection)
    }

    /// Keeps `connection` for `keep_alive`. Where there is no room, the one that
    /// waited longest is closed.
    pub(super) fn give(self: &Arc<Pool>, endpoint: Endpoint, connection: Connection, keep_alive: Duration) {
        if keep_alive.is_zero() {
            return;
        }
        let until = later(Instant::now(), keep_alive);
        let mut state = self.state();
        if state.idle.get(&endpoint).is_some_and(|list| list.len() >= IDLE_CONNECTIONS_PER_ENDPOINT_MAX) {
            state.drop_oldest(&endpoint);
        } else if state.count >= self.idle_max {
            let first = |list: &VecDeque<Idle>| list.front().map(|idle| idle.until);
            let oldest = state.idle.iter().min_by_key(|(_, list)| first(list)).map(|(endpoint, _)| endpoint.clone());
            if let Some(oldest) = oldest {
                state.drop_oldest(&oldest);
            }
        }
        state.idle.entry(endpoint).or_default().push_back(Idle { connection, until });
        state.count += 1;
        if !state.is_swept {
            state.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is over its time or was closed by its receiver. When to look again;
    /// none: nothing is left, and the next [`Pool::give`] starts another sweep.
    fn drop_expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        for list in state.idle.values_mut() {
            list.retain_mut(|idle| now < idle.until && !idle.connection.has_ended());
        }
        state.idle.retain(|_, list| !list.is_empty());
        state.count = state.idle.values().map(VecDeque::len).sum();
        let next = state.idle.values().flatten().map(|idle| idle.until).min();
        state.is_swept = next.is_some();
        next.map(|next| next.clamp(later(now, IDLE_SWEEP_INTERVAL), later(now, IDLE_LOOK_INTERVAL)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_oldest(&mut self, endpoint: &Endpoint) {
        let Some(list) = self.idle.get_mut(endpoint) else { return };
        if list.pop_front().is_some() {
            self.count -= 1;
        }
        if list.is_empty() {
            self.idle.remove(endpoint);
        }
    }
}

/// Closes idle connections when their time is up or their receiver has closed them,
/// for as long as there are any: a pool that is empty costs nothing.
async fn sweep(pool: Weak<Pool>) {
    loop {
        // Not as much as a task may do at a time: what is looked at beyond that seems open.
        let looking = async { pool.upgrade().and_then(|pool| pool.drop_expired(Instant::now())) };
        let next = unconstrained(looking).await;
        match next {
            Some(next) => sleep_until(next).await,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(60);

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { host: "example.com".into(), port, tls: None, proxy: None }
    }

    fn connection(port: u16) -> (Connection, DuplexStream) {
        let (ours, theirs) = duplex(4096);
        (Connection::new(ours, SocketAddr::from(([192, 0, 2, 1], port))), theirs)
    }

    #[tokio::test]
    async fn what_is_over_its_time_is_not_handed_out() {
        let pool = Arc::new(Pool::of(usize::MAX));
        let (open, _peer) = connection(1);
        pool.give(endpoint(1), open, KEEP_ALIVE);
        assert!(pool.take(&endpoint(2), |_| true).is_none(), "of another endpoint");
        assert!(pool.take(&endpoint(1), |_| false).is_none(), "not admitted");
        let now = Instant::now();
        assert!(pool.drop_expired(now).is_some_and(|next| next >= later(now, IDLE_SWEEP_INTERVAL)));
        assert_eq!(pool.drop_expired(later(now, KEEP_ALIVE + KEEP_ALIVE)), None);
        assert!(pool.take(&endpoint(1), |_| true).is_none(), "over its time");
        assert_eq!(pool.state().count, 0);
    }

    #[tokio::test]
    async fn the_pool_is_bounded() {
        let pool = Arc::new(Pool::of(usize::MAX));
        let mut peers = Vec::new();
        let endpoints = IDLE_CONNECTIONS_MAX / IDLE_CONNECTIONS_PER_ENDPOINT_MAX + 1;
        for port in 1..=u16::try_from(endpoints).expect("few") {
            for _ in 0..=IDLE_CONNECTIONS_PER_ENDPOINT_MAX {
                let (open, peer) = connection(port);
                pool.give(endpoint(port), open, KEEP_ALIVE);
                peers.push(peer);
                assert!(pool.state().idle[&endpoint(port)].len() <= IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
            }
        }
        assert_eq!(pool.state().count, IDLE_CONNECTIONS_MAX);
        assert!(!pool.state().idle.contains_key(&endpoint(1)), "the ones that waited longest made room");
        let mut taken = 0;
        while pool.take(&endpoint(2), |_| true).is_some() {
            taken += 1;
        }
        assert_eq!(taken, IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        assert_eq!(pool.state().count, IDLE_CONNECTIONS_MAX - taken);
    }
}
