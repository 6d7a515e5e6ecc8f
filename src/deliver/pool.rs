//! Connections that wait for the next request to the same receiver. Nobody watches them:
//! whether the receiver has closed one shows when it is used next, or when the pool is
//! swept.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::HashMap;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::later;
use super::tls::Fingerprint;
use crate::config::Proxy;
use crate::limits::{IDLE_CONNECTIONS_MAX, IDLE_CONNECTIONS_PER_ENDPOINT_MAX, IDLE_LOOK_INTERVAL, IDLE_SWEEP_INTERVAL};

/// Where there is no room, one in so many makes some.
const ROOM_SHARE: usize = 64;

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
    /// Since when it waits: in each list the later ones wait for less long.
    since: Instant,
    until: Instant,
}

#[derive(Default)]
struct State {
    /// For each endpoint, the one used longest ago first. A list that was emptied stays until
    /// the next sweep, or until room is made: most get one back before.
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
        state.count -= 1;
        Some(found.connection)
    }

    /// Keeps `connection` for `keep_alive`. Where there is no room, those that waited longest
    /// are closed.
    pub(super) fn give(self: &Arc<Pool>, endpoint: Endpoint, connection: Connection, keep_alive: Duration) {
        if keep_alive.is_zero() {
            return;
        }
        let mut state = self.state();
        let since = Instant::now();
        let idle = Idle { connection, since, until: later(since, keep_alive) };
        let list = state.idle.entry(endpoint).or_default();
        list.push_back(idle);
        let left_over = if list.len() > IDLE_CONNECTIONS_PER_ENDPOINT_MAX {
            list.pop_front().into_iter().collect()
        } else {
            state.count += 1;
            // With the new one in its place already, lest its list be looked up twice.
            if state.count > self.idle_max { state.take_oldest() } else { Vec::new() }
        };
        let is_swept = std::mem::replace(&mut state.is_swept, true);
        drop(state);
        // Closing takes the system's time: nobody is to wait for that.
        drop(left_over);
        if !is_swept {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is over its time or was closed by its receiver. When to look again;
    /// none: nothing is left, and the next [`Pool::give`] starts another sweep.
    fn drop_expired(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        let mut expired = Vec::new();
        for list in state.idle.values_mut() {
            let mut at = 0;
            while let Some(idle) = list.get_mut(at) {
                if now < idle.until && !idle.connection.has_ended() {
                    at += 1;
                } else {
                    expired.extend(list.remove(at));
                }
            }
        }
        state.idle.retain(|_, list| !list.is_empty());
        state.count -= expired.len();
        let next = state.idle.values().flatten().map(|idle| idle.until).min();
        state.is_swept = next.is_some();
        drop(state);
        drop(expired);
        next.map(|next| next.clamp(later(now, IDLE_SWEEP_INTERVAL), later(now, IDLE_LOOK_INTERVAL)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those that waited longest, some at a time: to look for one among all costs as much as to
    /// look for many.
    fn take_oldest(&mut self) -> Vec<Idle> {
        let mut begun: Vec<Instant> = self.idle.values().flatten().map(|idle| idle.since).collect();
        let wanted = begun.len().div_ceil(ROOM_SHARE);
        let mut oldest = Vec::with_capacity(wanted);
        if wanted == 0 {
            return oldest;
        }
        let (_, last, _) = begun.select_nth_unstable(wanted - 1);
        for list in self.idle.values_mut() {
            while oldest.len() < wanted
                && let Some(idle) = list.pop_front_if(|idle| idle.since <= *last)
            {
                oldest.push(idle);
            }
        }
        self.idle.retain(|_, list| !list.is_empty());
        self.count -= oldest.len();
        oldest
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
    async fn an_endpoint_has_no_more_than_its_part() {
        let pool = Arc::new(Pool::of(usize::MAX));
        let mut peers = Vec::new();
        for _ in 0..=IDLE_CONNECTIONS_PER_ENDPOINT_MAX {
            let (open, peer) = connection(1);
            pool.give(endpoint(1), open, KEEP_ALIVE);
            peers.push(peer);
        }
        assert_eq!(pool.state().count, IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        let mut taken = 0;
        while pool.take(&endpoint(1), |_| true).is_some() {
            taken += 1;
        }
        assert_eq!(taken, IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        assert_eq!(pool.state().count, 0);
        // Who gives one back next has its list still; where nobody does, it goes.
        assert!(pool.state().idle.contains_key(&endpoint(1)));
        assert_eq!(pool.drop_expired(Instant::now()), None);
        assert!(pool.state().idle.is_empty());
    }

    /// Of an event for more endpoints than connections are kept, each attempt made the pool look
    /// through all of them.
    #[tokio::test]
    async fn those_that_waited_longest_make_room() {
        const KEPT: usize = 2 * ROOM_SHARE;
        let pool = Arc::new(Pool::of(KEPT));
        let mut peers = Vec::new();
        let mut give = |port| {
            let (open, peer) = connection(port);
            pool.give(endpoint(port), open, KEEP_ALIVE);
            peers.push(peer);
            pool.state().count
        };
        // The one that comes first is used again.
        assert_eq!((0..KEPT).map(|port| give(port as u16)).last(), Some(KEPT));
        assert!(pool.take(&endpoint(0), |_| true).is_some());
        assert_eq!(give(0), KEPT);
        let gone = (KEPT + 1).div_ceil(ROOM_SHARE);
        assert_eq!(give(1000), KEPT + 1 - gone);
        assert_eq!(give(1001), KEPT + 2 - gone);
        let state = pool.state();
        for port in 1..=gone as u16 {
            assert!(!state.idle.contains_key(&endpoint(port)), "{port}");
        }
        for port in (1 + gone as u16..KEPT as u16).chain([0, 1000, 1001]) {
            assert!(state.idle.contains_key(&endpoint(port)), "{port}");
        }
    }

    /// A reload that shortens the time that they are kept left those that wait longer in front.
    #[tokio::test]
    async fn the_pool_is_bounded_however_long_each_is_kept() {
        let pool = Arc::new(Pool::of(usize::MAX));
        assert_eq!(pool.idle_max, IDLE_CONNECTIONS_MAX);
        let pool = Arc::new(Pool::of(IDLE_CONNECTIONS_PER_ENDPOINT_MAX));
        let mut peers = Vec::new();
        let mut give = |port, keep_alive| {
            let (open, peer) = connection(port);
            pool.give(endpoint(port), open, keep_alive);
            peers.push(peer);
            pool.state().count
        };
        for round in 0..IDLE_CONNECTIONS_PER_ENDPOINT_MAX {
            assert_eq!(give(1, KEEP_ALIVE), round + 1);
        }
        // The endpoint has its part: only its own makes room.
        assert_eq!(give(1, KEEP_ALIVE / 2), IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        for port in 2..200 {
            assert!(give(port, KEEP_ALIVE / 2) <= IDLE_CONNECTIONS_PER_ENDPOINT_MAX);
        }
        let state = pool.state();
        assert_eq!(state.count, state.idle.values().map(VecDeque::len).sum::<usize>());
        assert!(state.idle.contains_key(&endpoint(2)));
    }

    #[tokio::test]
    async fn who_gives_one_back_finds_its_list() {
        let counts = |pool: &Pool| {
            let state = pool.state();
            (state.count, state.idle.len())
        };
        let pool = Arc::new(Pool::of(usize::MAX));
        let (open, _peer) = connection(1);
        pool.give(endpoint(1), open, KEEP_ALIVE);
        let taken = pool.take(&endpoint(1), |_| true).expect("one that waits");
        assert_eq!(counts(&pool), (0, 1));
        assert!(pool.take(&endpoint(1), |_| true).is_none());
        pool.give(endpoint(1), taken, KEEP_ALIVE);
        assert_eq!(counts(&pool), (1, 1));
        assert!(pool.drop_expired(Instant::now()).is_some(), "it is looked after");
        assert!(pool.take(&endpoint(1), |_| true).is_some());
    }

    #[tokio::test]
    async fn a_pool_of_none_keeps_none() {
        let pool = Arc::new(Pool::of(0));
        let (open, _peer) = connection(1);
        pool.give(endpoint(1), open, KEEP_ALIVE);
        assert!(pool.take(&endpoint(1), |_| true).is_none());
        assert_eq!(pool.state().count, 0);
    }

    #[tokio::test]
    async fn a_pool_of_one_keeps_the_last() {
        let pool = Arc::new(Pool::of(1));
        for port in [1, 2] {
            let (open, _peer) = connection(port);
            pool.give(endpoint(port), open, KEEP_ALIVE);
            assert_eq!(pool.state().count, 1);
        }
        assert!(pool.take(&endpoint(1), |_| true).is_none());
    }
}
