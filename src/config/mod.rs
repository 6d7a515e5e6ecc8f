//! The configuration: one file over the compiled-in example, environment
//! variables over both. **The only room that reads the environment.**
//!
//! `document` turns TOML into a tree with line numbers, `environment` lays
//! variables over it, `read` makes the types below of it, `load` does it all and
//! tells every fault with its place; `keys` reads the files of keys, `credentials`
//! finds those that systemd hands over. Limits of
//! settings stand in `read`, beside the setting, and in `config.example.toml`.
//! `declared` reads the folder in which files declare subscriptions; `restart` knows what a
//! reload does not change.

mod credentials;
pub mod declared;
mod dialects;
mod document;
pub mod environment;
mod keys;
mod load;
mod read;
mod restart;

#[cfg(any(test, fuzzing))]
pub(crate) use load::parse;
pub use load::{ConfigErrors, Loaded, LocatedFault, Place, load, open_to_everybody};
pub use read::parse_size;
pub use restart::{AT_START, Differs, needing_restart};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{self, AtomicU64};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::ApiKey;
pub use crate::auth::Auth;
use crate::dialect;
use crate::model::{Name, Ordering};
use crate::retry::Policy;
use crate::seal::Keyring;
use crate::secrecy::Rule;

/// Everything that can be configured, checked.
#[derive(Clone)]
pub struct Config {
    /// `[service]`
    pub service: Service,
    /// `[storage]`
    pub storage: Storage,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[retention]`
    pub retention: Retention,
    /// `[[secrecy]]`, after the built-in rules of [`crate::dialect::pdk::secrecy_rules`].
    pub secrecy: Vec<Rule>,
    /// `[dialects]`
    pub dialects: dialect::Options,
    /// `[[api_keys]]`
    pub api_keys: Vec<ApiKey>,
    /// `[log]`
    pub log: Log,
}

/// `[service]`: the API's own side.
#[derive(Clone)]
pub struct Service {
    /// Where the API listens.
    pub listen: Vec<Listen>,
    /// Where Prometheus metrics are served without a key; none: only with one, by the API.
    pub metrics_listen: Option<SocketAddr>,
    /// The certificate that TCP listeners show; none: plain HTTP.
    pub tls: Option<ServerTls>,
    /// Whether callers need a key.
    pub auth: Auth,
    /// Names that `Host` may have beside the listeners' own addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Values of `Origin` that are answered.
    pub origins: Vec<String>,
    /// The folder in which files declare organizations, sources, event types and
    /// subscriptions; none: the API alone does.
    pub declared_in: Option<PathBuf>,
    /// How long a stop waits for what is in flight.
    pub drain: Duration,
    /// Who may use the Unix sockets: their files' mode.
    pub socket_mode: u32,
    /// Requests a second of one key that has no limit of its own; 0: no limit.
    pub requests_per_second: u32,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket, of [`Service::socket_mode`].
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Listen::Tcp(address) => address.ip().is_loopback(),
            Listen::Unix(_) => true,
        }
    }
}

/// A certificate and its key, and who signs those of callers, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The chain.
    pub cert_file: PathBuf,
    /// The private key; not readable by others.
    pub key_file: PathBuf,
    /// The authorities of which callers must show a certificate; none: they show none.
    pub client_ca_file: Option<PathBuf>,
}

/// `[storage]`
#[derive(Clone)]
pub struct Storage {
    /// The folder of the store.
    pub path: PathBuf,
    /// Live bytes at which publishing is refused; 0: what the disk has.
    pub bytes_max: u64,
    /// Bytes of the disk that are left free.
    pub reserve_bytes: u64,
    /// Memory for pages of the store.
    pub cache_bytes: u64,
    /// The keys that encrypt what the store holds of secrets.
    pub keyring: Arc<Keyring>,
    /// From which size on a file that is mostly free is compacted at the start; 0: never.
    pub compact_above_bytes: u64,
}

/// `[delivery]`
#[derive(Clone)]
pub struct Delivery {
    /// Whether URLs may be plain `http`.
    pub allow_http: bool,
    /// Networks opened beside the public ones.
    pub allow_networks: Vec<AllowedNetwork>,
    /// By whom receivers are reached; none: directly.
    pub proxy: Option<Proxy>,
    /// Whether every format verifies URLs.
    pub verify_urls: bool,
    /// A whole attempt.
    pub timeout: Duration,
    /// Resolving and connecting.
    pub connect_timeout: Duration,
    /// Attempts in flight, a lane.
    pub concurrency: u32,
    /// Attempts in flight, all lanes.
    pub concurrency_total: u32,
    /// Attempts a second, a lane; 0: no limit.
    pub rate_per_second: f64,
    /// In which order, a lane.
    pub ordering: Ordering,
    /// Idle connections are closed after this.
    pub keep_alive: Duration,
    /// The `user-agent` of every request.
    pub user_agent: String,
    /// `[delivery.retry]`
    pub retry: Policy,
}

/// A network that is blocked by default and opened here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedNetwork {
    /// Which.
    pub cidr: IpNet,
    /// To whom; none: to all (`*`).
    pub organizations: Option<Vec<Name>>,
}

/// A proxy that makes tunnels (`CONNECT`), itself reached by plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Its name or address.
    pub host: url::Host<String>,
    /// Its port.
    pub port: u16,
}

/// `[retention]`: how long ended things are kept, from acceptance or reopening.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Events all of whose deliveries succeeded.
    pub delivered: Duration,
    /// Events with a failed or cancelled delivery.
    pub failed: Duration,
    /// Events that matched nothing.
    pub unmatched: Duration,
    /// Entries of the audit log.
    pub audit: Duration,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// How entries look.
    pub format: LogFormat,
    /// The least severe that are written.
    pub level: tracing::Level,
}

/// How log entries look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal where stderr leads there, else text.
    Auto,
    /// Entries of the systemd journal.
    Journal,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration in force; a reload puts another one in its place.
#[derive(Clone)]
pub struct Live {
    in_force: Arc<RwLock<Arc<Config>>>,
    generation: Arc<AtomicU64>,
}

impl Live {
    /// Starts with `config`.
    pub fn new(config: Config) -> Live {
        Live { in_force: Arc::new(RwLock::new(Arc::new(config))), generation: Arc::new(AtomicU64::new(1)) }
    }

    /// The one in force. Ask anew for each request or attempt.
    pub fn current(&self) -> Arc<Config> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which one is in force: 1 is that of the start, and each reload counts one more.
    pub fn generation(&self) -> u64 {
        self.generation.load(atomic::Ordering::Relaxed)
    }

    /// Puts another one in force.
    pub fn replace(&self, config: Config) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.generation.fetch_add(1, atomic::Ordering::Relaxed);
    }
}
