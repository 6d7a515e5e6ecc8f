//! Puts the rooms together: opens the store, starts engine and API, answers
//! signals, stops in order. **A part that dies takes the process down**, so that
//! the service manager starts it anew rather than have it linger half alive.

use std::net::SocketAddr;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::api;
use crate::api::declared::read_folder;
use crate::attempt::Performer;
use crate::config::declared::{DeclarationErrors, Declarations};
use crate::config::environment::{self, Handed};
use crate::config::{Auth, Config, Listen, Live, Loaded, needing_restart};
use crate::deliver::{Client, Roots, TlsError};
use crate::engine::{Engine, Pulse, StoreGone};
use crate::http::{BindError, BodyRoom, Certificate, Listeners};
use crate::limits::REQUEST_BODIES_BYTES_MAX;
use crate::metrics::Metrics;
use crate::model::ManagedBy;
use crate::store::command::{ChangeError, Declared, WriteError};
use crate::store::work::UnderWay;
use crate::store::{self, OpenError, Store, WriterThread};
use crate::systemd;
use crate::time::{Clock, Timestamp};

/// Why what files declare was not put in force. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// They cannot be read, or say what cannot be.
    #[error(transparent)]
    Files(#[from] DeclarationErrors),
    /// The store could not.
    #[error("what files declare cannot be put in force: {0}")]
    Store(ChangeError),
}

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What files declare cannot be put in force.
    #[error(transparent)]
    Declared(#[from] DeclareError),
    /// A listener cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS towards receivers cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] TlsError),
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// A socket that was handed over lets everybody in.
    #[error("service.auth must not be \"none\" with a socket for {0}, which is reached from other machines")]
    Open(String),
    /// Signals cannot be listened for.
    #[error("signals cannot be listened for: {0}")]
    Signals(std::io::Error),
}

/// Why another configuration was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It asks for no keys, where there are listeners that other machines reach.
    #[error("service.auth must not be \"none\" while the daemon listens on {0}, which is reached from other machines")]
    Open(String),
    /// The certificate that it names cannot be shown.
    #[error("cannot use the certificate of [service] tls: {0}")]
    Certificate(String),
    /// What files declare cannot be put in force.
    #[error(transparent)]
    Declared(#[from] DeclareError),
    /// A key is not there any more that secrets are encrypted under.
    #[error("the store: {0}")]
    Key(#[from] store::StoreError),
}

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store's writer ended.
    #[error(transparent)]
    StoreGone(#[from] StoreGone),
    /// A part that must run for as long as the process panicked or ended.
    #[error("the {0} ended unexpectedly")]
    PartGone(&'static str),
    /// Not everything could be recorded before the end.
    #[error("the store was not closed cleanly")]
    NotClosed,
}

/// A running daemon.
pub struct App {
    config: Live,
    clock: Clock,
    store: Store,
    client: Client,
    writer: WriterThread,
    engine: JoinHandle<Result<(), StoreGone>>,
    pulse: Pulse,
    servers: Vec<JoinHandle<()>>,
    certificate: Option<Certificate>,
    addresses: Vec<Listen>,
    metrics_addresses: Vec<Listen>,
    reloaded: watch::Sender<u64>,
    stop_serving: watch::Sender<bool>,
    stop_engine: watch::Sender<bool>,
}

impl App {
    /// Starts a daemon that trusts `roots` to say who receivers are.
    pub async fn start(config: Config, clock: Clock, roots: &Roots) -> Result<App, StartError> {
        let under_way = Arc::new(UnderWay::of(&config.storage.path));
        App::start_on(Vec::new(), config, clock, roots, under_way).await
    }

    /// The same on the listeners that were `handed` over, where there are any: they
    /// take the place of `[service] listen`. `under_way` tells what takes long of it.
    async fn start_on(
        handed: Vec<Handed>,
        config: Config,
        clock: Clock,
        roots: &Roots,
        under_way: Arc<UnderWay>,
    ) -> Result<App, StartError> {
        let config = within_open_files(config);
        let declared = read_declared(&config, clock.now())?;
        let live = Live::new(config.clone());
        let (store, writer, notices) =
            Store::open_told(store_options(&config), clock.clone(), random_seed()?, under_way)?;
        let client = Client::new((&config.delivery).into(), roots)?;
        for warning in client.warnings() {
            tracing::warn!("{warning}");
        }
        let listeners = match handed.is_empty() {
            true => {
                let service = &config.service;
                Listeners::bind(&service.listen, service.tls.as_ref(), service.socket_mode).await?
            }
            false => Listeners::take(handed, config.service.tls.as_ref())?,
        };
        let metrics_listen: Vec<Listen> = config.service.metrics_listen.iter().copied().map(Listen::Tcp).collect();
        let metrics_listeners = Listeners::bind(&metrics_listen, None, config.service.socket_mode).await?;
        let certificate = listeners.certificate();
        let (addresses, metrics_addresses) = (listeners.addresses(), metrics_listeners.addresses());
        if let (Auth::None, Some(open)) = (config.service.auth, open_address(&addresses)) {
            return Err(StartError::Open(open));
        }
        client.refuse(addresses.iter().chain(&metrics_addresses).filter_map(socket_address).collect());

        let performer = Performer::new(client.clone(), live.clone(), clock.clone());
        let metrics = Arc::new(Metrics::new(store.commit_items()));
        let random = StdRng::from_seed(random_seed()?);
        let engine =
            Engine::new(store.clone(), performer.clone(), live.clone(), clock.clone(), metrics.clone(), random);
        let pulse = engine.pulse();
        let (reloaded, on_reload) = watch::channel(0);
        let (stop_engine, on_stop_engine) = watch::channel(false);
        let (stop_serving, on_stop_serving) = watch::channel(false);
        let engine = tokio::spawn(engine.run(notices, on_reload, on_stop_engine));
        let state = api::State {
            store: store.clone(),
            performer,
            config: live.clone(),
            clock: clock.clone(),
            metrics,
            bodies: BodyRoom::new(REQUEST_BODIES_BYTES_MAX),
            quotas: api::Quotas::default(),
        };
        let state = Arc::new(state);
        let mut app = App {
            config: live,
            clock,
            store,
            client,
            writer,
            engine,
            pulse,
            servers: Vec::new(),
            certificate,
            addresses,
            metrics_addresses,
            reloaded,
            stop_serving,
            stop_engine,
        };
        match put_declared(&app.store, declared).await {
            // What is there is delivered all the same, and makes room.
            Err(DeclareError::Store(error @ ChangeError::Write(WriteError::StorageFull))) => {
                tracing::error!(%error, "what files declare is not in force: reload when there is room");
            }
            Err(error) => {
                let _ = app.stop().await;
                return Err(error.into());
            }
            Ok(()) => {}
        }
        app.servers.push(tokio::spawn(listeners.serve(api::service(state.clone()), on_stop_serving.clone())));
        if !app.metrics_addresses.is_empty() {
            let service = api::metrics_service(state);
            app.servers.push(tokio::spawn(metrics_listeners.serve(service, on_stop_serving)));
        }
        for address in app.addresses.iter().chain(&app.metrics_addresses) {
            tracing::info!(address = show_address(address), "listening");
        }
        Ok(app)
    }

    /// Where the API listens, with the ports that were free.
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Where metrics are served without a key.
    pub fn metrics_addresses(&self) -> &[Listen] {
        &self.metrics_addresses
    }

    /// The store, for those who run the daemon inside their own process.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Puts another configuration in force, and what files declare under it: all of
    /// it, or nothing. What needs a restart stays as it was, and is named.
    ///
    /// # Errors
    /// When it would let everybody in at listeners that other machines reach, lacks a
    /// key that secrets are encrypted under, or files declare what cannot be: nothing
    /// changes then. Those in force count, not those it asks for.
    pub async fn reload(&self, config: Config) -> Result<(), ReloadError> {
        let config = within_open_files(config);
        if let (Auth::None, Some(open)) = (config.service.auth, open_address(&self.addresses)) {
            return Err(ReloadError::Open(open));
        }
        self.store.check_keys(&config.storage.keyring)?;
        let renew = match (&self.certificate, &config.service.tls) {
            (Some(certificate), Some(files)) => Some(certificate.renew(files).map_err(ReloadError::Certificate)?),
            _ => None,
        };
        // The last that may be refused; nothing after it can.
        put_declared(&self.store, read_declared(&config, self.clock.now())?).await?;
        if let Some(renew) = renew {
            renew();
        }
        let before = self.config.current();
        for name in needing_restart(&before, &config) {
            tracing::warn!(setting = name, "changed; takes effect at the next start");
        }
        self.store.reconfigure(store_options(&config));
        self.client.reconfigure((&config.delivery).into());
        self.config.replace(config);
        self.reloaded.send_modify(|generation| *generation += 1);
        tracing::info!(generation = self.config.generation(), "configuration reloaded");
        Ok(())
    }

    /// Ends only when a part did that should not have.
    pub async fn died(&mut self) -> RunError {
        tokio::select! {
            engine = &mut self.engine => match engine {
                Ok(Err(gone)) => gone.into(),
                Ok(Ok(())) | Err(_) => RunError::PartGone("engine"),
            },
            () = first_ended(&mut self.servers) => RunError::PartGone("listener"),
        }
    }

    /// Stops in order: no more requests, no more attempts, what is in flight ends or
    /// is recorded, the store is closed.
    pub async fn stop(self) -> Result<(), RunError> {
        let drain = self.config.current().service.drain;
        let _ = self.stop_serving.send(true);
        let served = tokio::time::timeout(drain, async {
            for server in self.servers {
                let _: Result<(), JoinError> = server.await;
            }
        });
        let _ = self.stop_engine.send(true);
        let (_, engine) = tokio::join!(served, self.engine);
        self.store.close();
        let writer = self.writer;
        let closed = tokio::task::spawn_blocking(move || writer.join()).await.unwrap_or(false);
        match engine {
            Ok(Ok(())) if closed => Ok(()),
            Ok(Err(gone)) => Err(gone.into()),
            Ok(Ok(())) => Err(RunError::NotClosed),
            Err(_) => Err(RunError::PartGone("engine")),
        }
    }
}

/// What a daemon is told by signals. Whoever has it loses none: what comes before
/// [`run`] waits.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens for them from now on.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn listen() -> Result<Signals, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Runs the daemon, on the listeners that were `handed` over if there are any, until a
/// signal ends it: SIGTERM and SIGINT stop it in order, a second one at once; SIGHUP
/// reads the configuration again.
pub async fn run(loaded: Loaded, signals: Signals, handed: Vec<Handed>) -> Result<(), RunError> {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    if loaded.config.service.auth == Auth::None {
        tracing::warn!("auth = \"none\": whoever reaches the listeners may do everything");
    }
    if loaded.config.storage.keyring.current().is_none() {
        tracing::warn!(
            "storage.encryption_key_file is not set: signing secrets, passwords, tokens and private keys of \
             subscriptions lie in clear in the store; make a key with `posthaste key storage FILE`"
        );
    }
    let under_way = Arc::new(UnderWay::of(&loaded.config.storage.path));
    let patience = tokio::spawn(systemd::ask_for_patience(under_way.clone()));
    let started = App::start_on(handed, loaded.config.clone(), Clock::system(), &Roots::Platform, under_way).await;
    patience.abort();
    let mut app = started?;
    systemd::ready("started");
    let watch = systemd::watch(app.pulse.clone(), app.store.clone());
    loop {
        tokio::select! {
            error = app.died() => return Err(error),
            () = end(&mut terminate, &mut interrupt) => break,
            Some(()) = hangup.recv() => {
                systemd::reloading();
                systemd::ready(match reload(&app, &loaded).await {
                    true => "configuration reloaded",
                    false => "the configuration was not reloaded, the one before is in force: the log says why",
                });
            }
        }
    }
    drop(watch);
    tracing::info!("stopping");
    systemd::stopping(app.config.current().service.drain);
    tokio::select! {
        stopped = app.stop() => stopped?,
        () = end(&mut terminate, &mut interrupt) => {
            tracing::warn!("stopped at once; what was in flight is attempted again at the next start");
            return Ok(());
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// What files declare, where a folder is named.
fn read_declared(config: &Config, now: Timestamp) -> Result<Option<(Declarations, Declared)>, DeclareError> {
    let Some(folder) = &config.service.declared_in else { return Ok(None) };
    Ok(Some(read_folder(folder, now, config.delivery.allow_http)?))
}

/// Puts it in force.
async fn put_declared(store: &Store, declared: Option<(Declarations, Declared)>) -> Result<(), DeclareError> {
    let Some((files, declared)) = declared else {
        if store.registry().subscriptions().any(|it| it.managed_by() == ManagedBy::File) {
            tracing::warn!("service.declared_in is empty: what files declared before stays as it is");
        }
        return Ok(());
    };
    match store.declare(declared).await {
        Ok(steps) => tracing::info!(changes = steps.len(), "what files declare is in force"),
        Err(ChangeError::Declared(faults)) => files.judged(Err(faults))?,
        Err(error) => return Err(DeclareError::Store(error)),
    }
    Ok(())
}

/// Waits for a signal that asks for the end.
async fn end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Reads the configuration again. Answers whether it is in force.
async fn reload(app: &App, loaded: &Loaded) -> bool {
    let error = match loaded.again() {
        Ok(again) => match app.reload(again.config).await {
            Ok(()) => return true,
            Err(error) => error.to_string(),
        },
        Err(errors) => errors.to_string(),
    };
    tracing::error!(%error, "the configuration was not reloaded; nothing changed");
    false
}

async fn first_ended(servers: &mut [JoinHandle<()>]) {
    std::future::poll_fn(|context| {
        let ended = servers.iter_mut().any(|server| std::pin::Pin::new(server).poll(context).is_ready());
        if ended { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// An attempt needs an open file: with too few, those that got none would fail.
fn within_open_files(mut config: Config) -> Config {
    let share = u32::try_from(environment::open_files_share()).unwrap_or(u32::MAX);
    if config.delivery.concurrency_total > share {
        tracing::warn!(attempts_in_flight_max = share, "too few open files for delivery.concurrency_total");
        config.delivery.concurrency_total = share;
    }
    config
}

fn random_seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    Ok(seed)
}

fn store_options(config: &Config) -> store::Options {
    store::Options {
        path: config.storage.path.clone(),
        bytes_max: config.storage.bytes_max,
        reserve_bytes: config.storage.reserve_bytes,
        cache_bytes: config.storage.cache_bytes,
        compact_above_bytes: config.storage.compact_above_bytes,
        retention: config.retention.clone(),
        secrecy: config.secrecy.clone(),
        keyring: config.storage.keyring.clone(),
    }
}

/// The first address that other machines reach.
fn open_address(addresses: &[Listen]) -> Option<String> {
    addresses.iter().find(|address| !address.is_local()).map(show_address)
}

fn socket_address(listen: &Listen) -> Option<SocketAddr> {
    match listen {
        Listen::Tcp(address) => Some(*address),
        Listen::Unix(_) => None,
    }
}

fn show_address(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    }
}
