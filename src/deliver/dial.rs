//! From a host's name to a connection. **Every address is vetted, and the
//! connection goes to the vetted address itself**: there is no second lookup that
//! could answer something else, and a literal in the URL takes the same way. A proxy is
//! asked for the vetted address too; its own is the operator's, and not vetted.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use url::Host;

use super::address::{self, Policy, Verdict};
use super::{Failure, Rules, later, tunnel};
use crate::config::Proxy;
use crate::limits::{CONNECT_SHARE_MIN, LOOKUPS_MAX, RESOLVED_ADDRESSES_MAX};
use crate::model::FailureCode;

/// Opens connections.
pub(super) struct Dialer {
    lookups: Arc<Semaphore>,
    under_way: Arc<UnderWay>,
}

/// Names that are being looked up, each once: who asks for one meanwhile waits for
/// the same answer. A resolver that is silent about a name holds one lookup with it,
/// and not one for each attempt.
type UnderWay = Mutex<HashMap<String, watch::Receiver<Option<Found>>>>;

/// The addresses of a name, or why there are none.
type Found = Result<Arc<[IpAddr]>, Arc<str>>;

impl Dialer {
    /// One dialer, because what it bounds is the process's.
    pub(super) fn new() -> Dialer {
        Dialer { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), under_way: Arc::default() }
    }

    /// A connection to the first address of `host` that may be dialled and answers
    /// within `connect_timeout`, and that address.
    pub(super) async fn dial(
        &self,
        host: Host<&str>,
        port: u16,
        organization: &str,
        rules: &Rules,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let deadline = later(Instant::now(), rules.options.connect_timeout);
        let connecting = async {
            let is_name = matches!(host, Host::Domain(_));
            let resolved = self.resolve(host, port).await?;
            let open: Vec<SocketAddr> =
                resolved.into_iter().filter(|address| may_be_dialled(*address, organization, &rules.policy)).collect();
            if is_name && open.is_empty() {
                return Err(nowhere());
            }
            match &rules.options.proxy {
                None => connect(&open, &rules.policy, deadline).await,
                Some(proxy) => self.connect_by(proxy, &open, &rules.policy, deadline).await,
            }
        };
        timeout_at(deadline, connecting).await.unwrap_or_else(|_| Err(too_slow()))
    }

    /// A tunnel of `proxy` to the first of `open` that it reaches. Each gets its share of
    /// the time.
    async fn connect_by(
        &self,
        proxy: &Proxy,
        open: &[SocketAddr],
        policy: &Policy,
        deadline: Instant,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        let host = match &proxy.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(ip) => Host::Ipv4(*ip),
            Host::Ipv6(ip) => Host::Ipv6(*ip),
        };
        let unknown = |_| Failure::new(FailureCode::Connect, "the proxy's name does not resolve");
        let proxies = self.resolve(host, proxy.port).await.map_err(unknown)?;
        let mut failure = blocked();
        for (index, address) in open.iter().enumerate() {
            let left = u32::try_from(open.len() - index).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let tunnelling = async {
                let (mut stream, _) = connect(&proxies, policy, deadline).await?;
                tunnel::open(&mut stream, *address).await?;
                Ok((stream, *address))
            };
            match timeout(share.max(CONNECT_SHARE_MIN), tunnelling).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = too_slow(),
            }
        }
        Err(failure)
    }

    /// The first addresses of `host`.
    async fn resolve(&self, host: Host<&str>, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let name = match literal(host, port) {
            Ok(address) => return Ok(vec![address]),
            Err(name) => name.to_owned(),
        };
        let mut answer = self.ask(name);
        let found = answer.wait_for(Option::is_some).await;
        match found.as_deref() {
            Ok(Some(Ok(found))) if found.is_empty() => Err(nowhere()),
            Ok(Some(Ok(found))) => Ok(found.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "a host's name does not resolve");
                Err(nowhere())
            }
            Ok(None) | Err(_) => Err(Failure::new(FailureCode::Dns, "the lookup of the host's name was cut off")),
        }
    }

    /// The answer that is under way, or a new lookup's. A lookup cannot be cut off: in
    /// a task of its own it keeps its permit until it ends, so that a resolver that
    /// hangs cannot use up the threads.
    fn ask(&self, name: String) -> watch::Receiver<Option<Found>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(&name).filter(|answer| answer.has_changed().is_ok()) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(name.clone(), answer.clone());
        let (lookups, others) = (self.lookups.clone(), self.under_way.clone());
        tokio::spawn(async move {
            let _permit = lookups.acquire_owned().await;
            let found = match lookup_host((name.as_str(), 0)).await {
                Ok(found) => Ok(found.take(RESOLVED_ADDRESSES_MAX).map(|address| address.ip()).collect()),
                Err(error) => Err(error.to_string().into()),
            };
            others.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            tell.send_replace(Some(found));
        });
        answer
    }
}

/// The address that `host` is, or the name that it is instead.
pub(super) fn literal(host: Host<&str>, port: u16) -> Result<SocketAddr, &str> {
    match host {
        Host::Ipv4(ip) => Ok(SocketAddr::new(ip.into(), port)),
        Host::Ipv6(ip) => Ok(SocketAddr::new(ip.into(), port)),
        Host::Domain(name) => Err(name),
    }
}

/// A name that nobody has and one that only the inside of a network has look the same
/// from outside: whoever may write URLs must not find out which names are there. The
/// operator's log knows.
fn nowhere() -> Failure {
    Failure::new(FailureCode::Dns, "the host's name has no address that may be reached")
}

/// The verdict; its reason is for the operator's log alone, because an address
/// that a tenant may not reach is none that a tenant may learn.
pub(super) fn may_be_dialled(address: SocketAddr, organization: &str, policy: &Policy) -> bool {
    match address::vet(address.ip(), address.port(), organization, policy) {
        Verdict::Allowed => true,
        Verdict::Blocked(reason) => {
            tracing::debug!(%address, organization, reason, "address not dialled");
            false
        }
    }
}

/// Tries `open` in order. A host that does not answer on its first address must
/// not use up the time of the others, so each gets its share.
async fn connect(open: &[SocketAddr], policy: &Policy, deadline: Instant) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut failure = blocked();
    for (index, address) in open.iter().enumerate() {
        let left = u32::try_from(open.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share.max(CONNECT_SHARE_MIN), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(local), Ok(peer)) if !address::reached_own(local, peer, policy) => {
                    // Requests are written whole; waiting for more to send would only delay them.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY not set");
                    }
                    return Ok((stream, *address));
                }
                (Ok(_), Ok(_)) => tracing::debug!(%address, "closed unused: it is our own listener"),
                _ => failure = Failure::new(FailureCode::Connect, "could not connect: closed at once"),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => failure = too_slow(),
            Ok(Err(error)) => {
                failure = Failure::new(FailureCode::Connect, format!("could not connect: {}", error.kind()));
            }
            Err(_) => failure = too_slow(),
        }
    }
    Err(failure)
}

fn blocked() -> Failure {
    Failure::new(FailureCode::AddressBlocked, "the address may not be reached")
}

fn too_slow() -> Failure {
    Failure::new(FailureCode::ConnectTimeout, "no connection within connect_timeout")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    async fn reached(open: &[SocketAddr], own: Vec<SocketAddr>) -> Result<SocketAddr, FailureCode> {
        let policy = Policy { allowed: Vec::new(), own };
        let deadline = later(Instant::now(), std::time::Duration::from_secs(20));
        connect(open, &policy, deadline).await.map(|(_, address)| address).map_err(|failure| failure.code)
    }

    #[tokio::test]
    async fn the_next_address_is_tried_where_one_does_not_connect() {
        let (gone, refused) = listener().await;
        drop(gone);
        let (_first, first) = listener().await;
        let (_second, second) = listener().await;
        assert_eq!(reached(&[refused, first, second], Vec::new()).await, Ok(first));
        assert_eq!(reached(&[refused], Vec::new()).await, Err(FailureCode::Connect));
        assert_eq!(reached(&[], Vec::new()).await, Err(FailureCode::AddressBlocked));
    }

    /// A name whose owner answers with what may be dialled and what may not, and with
    /// something else the next time.
    #[tokio::test]
    async fn every_address_of_every_answer_is_vetted() {
        let (receiver, address) = listener().await;
        let dialer = Dialer::new();
        let (answers, answer) = watch::channel(None);
        dialer.under_way.lock().expect("fine").insert("rebound.example".to_owned(), answer);
        let options = crate::deliver::Options {
            connect_timeout: std::time::Duration::from_secs(20),
            keep_alive: std::time::Duration::ZERO,
            user_agent: String::new(),
            allow_networks: vec![crate::config::AllowedNetwork {
                cidr: "127.0.0.1/32".parse().expect("a network"),
                organizations: None,
            }],
            proxy: None,
        };
        let rules = Rules::new(options, Vec::new());
        let dial = async |ips: &[&str]| {
            let ips: Arc<[IpAddr]> = ips.iter().map(|ip| ip.parse().expect("an address")).collect();
            answers.send_replace(Some(Ok(ips)));
            let dialled = dialer.dial(Host::Domain("rebound.example"), address.port(), "acme", &rules).await;
            dialled.map(|(_, address)| address).map_err(|failure| failure.code)
        };
        // None of the others is even tried: some would take their share of the time to fail.
        let mixed = ["10.0.0.1", "169.254.169.254", "::1", "127.0.0.2", "64:ff9b::a00:1", "127.0.0.1"];
        assert_eq!(dial(&mixed).await, Ok(address));
        receiver.accept().await.expect("a connection");
        assert_eq!(dial(&["127.0.0.2"]).await, Err(FailureCode::Dns));
        assert_eq!(dial(&mixed[..5]).await, Err(FailureCode::Dns));
        assert_eq!(dial(&["::ffff:127.0.0.1"]).await.map(|address| address.port()), Ok(address.port()));
    }

    /// What vetting cannot know before: which addresses a wildcard listener has.
    #[tokio::test]
    async fn a_connection_that_reached_ourselves_is_closed_before_anything_is_sent() {
        let (own, address) = listener().await;
        let wildcard = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert_eq!(reached(&[address], vec![wildcard]).await, Err(FailureCode::AddressBlocked));
        let (mut accepted, _) = own.accept().await.expect("a connection");
        let mut sent = Vec::new();
        accepted.read_to_end(&mut sent).await.expect("the end");
        assert!(sent.is_empty());
    }
}
