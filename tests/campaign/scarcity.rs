//! Too few open files, too little memory, ten thousand endpoints.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tokio::net::TcpStream;

use crate::crowd::Crowd;
use crate::daemon::{Daemon, Home, binary};

/// A daemon after `limit`, a command of the shell.
async fn limited(home: &Home, limit: &str) -> Daemon {
    let config = home.quiet(&home.configure(""));
    let own = binary();
    let mut command = tokio::process::Command::new("sh");
    command.env_clear().kill_on_drop(true).stdin(std::process::Stdio::null());
    command.arg("-c").arg(format!("{limit} && exec \"$@\"")).arg("sh");
    command.arg(own.as_std().get_program()).arg("serve").arg("--config").arg(config);
    Daemon::launch(command).await
}

/// Makes so many subscriptions to endpoints of `crowd`.
async fn subscribe(daemon: &Daemon, crowd: &Crowd, count: usize) {
    for number in 0..count {
        let fields = json!({"url": crowd.url(number), "events": ["load.*"]});
        daemon.post("/v1/subscriptions", &fields).await.expect(201);
    }
}

async fn publish(daemon: &Daemon, count: usize) {
    for number in 0..count {
        daemon.post("/v1/events", &json!({"type": "load.event", "data": number})).await.expect(202);
    }
}

/// Callers that only held connections, and connections kept to receivers, took every
/// open file there was: accepting stopped, and attempts failed that were none of
/// their endpoints' fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_open_files_cost_no_attempt() {
    const ENDPOINTS: usize = 300;
    let home = Home::new();
    let crowd = Crowd::answering(|_| 200).await;
    let daemon = limited(&home, "ulimit -n 256").await;
    subscribe(&daemon, &crowd, ENDPOINTS).await;
    publish(&daemon, 2).await;
    let mut idle = tokio::task::JoinSet::new();
    for _ in 0..150 {
        let address = daemon.address;
        idle.spawn(async move {
            let _connection = TcpStream::connect(address).await;
            std::future::pending::<()>().await;
        });
    }
    crowd.reaches(2 * ENDPOINTS).await;
    idle.shutdown().await;
    publish(&daemon, 1).await;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == 3 * ENDPOINTS).await;
    assert_eq!(crowd.total(), 3 * ENDPOINTS, "each once");
    let log = daemon.log();
    for fault in ["attempt failed", "cannot accept"] {
        assert!(!log.contains(fault), "{}", log.lines().find(|line| line.contains(fault)).unwrap());
    }
}

/// A control group of the kernel, with so much memory and no more: who needs more is
/// killed. Gone when dropped, once nobody is in it.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// None: not allowed, or not there.
    fn of(bytes: u64) -> Option<MemoryGroup> {
        let name = format!("posthaste-test-{}", std::process::id());
        let versions = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        versions.into_iter().find_map(|(root, limit)| {
            let group = MemoryGroup(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// A small box has little memory: large events, many at a time, do not take more, with
/// the settings that the operations guide has for it. Without the allocator's, memory
/// given back a moment ago still counted, and the kernel killed the daemon now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_of_memory_are_enough() {
    const ENDPOINTS: usize = 10;
    const EVENTS: usize = 150;
    let Some(group) = MemoryGroup::of(64 * 1024 * 1024) else {
        eprintln!("not tested: memory cannot be limited here");
        return;
    };
    let home = Home::new();
    let crowd = Crowd::answering(|path| if is_failing(path) { 500 } else { 200 }).await;
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let settings = "POSTHASTE_STORAGE_CACHE_BYTES='8 MiB' _RJEM_MALLOC_CONF=dirty_decay_ms:0";
    let daemon = limited(&home, &format!("{enter} && export {settings}")).await;
    subscribe(&daemon, &crowd, ENDPOINTS).await;
    let data = "x".repeat(200_000);
    let mut publishing = tokio::task::JoinSet::new();
    let daemon = std::sync::Arc::new(daemon);
    for _ in 0..8 {
        let (daemon, data) = (daemon.clone(), data.clone());
        publishing.spawn(async move {
            for _ in 0..EVENTS.div_ceil(8) {
                daemon.post("/v1/events", &json!({"type": "load.event", "data": data})).await.expect(202);
            }
        });
    }
    publishing.join_all().await;
    let well = (0..ENDPOINTS).filter(|number| !is_failing(&format!("/{number}"))).count() * EVENTS.div_ceil(8) * 8;
    daemon.until("/v1/stats", |stats| stats["deliveries"]["delivered"] == well).await;
    let inside = fs::read_to_string(group.0.join("cgroup.procs")).unwrap();
    assert!(inside.lines().any(|line| line == daemon.id().to_string()), "it was limited: {inside:?}");
    let daemon = std::sync::Arc::into_inner(daemon).expect("nobody else has it");
    daemon.kill().await;
}

/// What it holds of the machine's memory, and the most it ever held.
fn memory_kib(daemon: &Daemon) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// The time it has used the processor for, in hundredths of a second.
fn ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// So many endpoints, of which every third fails, with little memory for the store.
async fn crowded(endpoints: usize, events: usize) {
    let home = Home::new();
    let crowd = Crowd::answering(|path| if is_failing(path) { 500 } else { 200 }).await;
    let daemon = limited(&home, "ulimit -n 1024 && export POSTHASTE_STORAGE_CACHE_BYTES='8 MiB'").await;
    subscribe(&daemon, &crowd, endpoints).await;
    let began = std::time::Instant::now();
    publish(&daemon, events).await;
    let well = (0..endpoints).filter(|number| !is_failing(&format!("/{number}"))).count() * events;
    while daemon.get("/v1/stats").await.expect(200)["deliveries"]["delivered"] != well {
        assert!(began.elapsed().as_secs() < 1800, "{}", daemon.get("/v1/stats").await.expect(200));
        tokio::task::yield_now().await;
    }
    let (now_kib, most_kib) = memory_kib(&daemon);
    eprintln!(
        "{endpoints} endpoints, a third failing, {events} events: {well} delivered in {:.1} s, {} requests; {} MiB of \
         memory, at most {} MiB; {:.1} s of processor",
        began.elapsed().as_secs_f64(),
        crowd.total(),
        now_kib / 1024,
        most_kib / 1024,
        ticks(&daemon) as f64 / 100.0
    );
    // Of the failing ones no more than what trips a lane, and what was in flight then.
    let failed = crowd.total() - well;
    assert!(failed <= (endpoints - well / events) * (16 + 5 + events), "{failed} requests failed");
}

fn is_failing(path: &str) -> bool {
    path[1..].parse::<usize>().unwrap().is_multiple_of(3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_of_many_endpoints_may_fail() {
    crowded(200, 5).await;
}

/// `cargo test --release --test campaign ten_thousand -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_third_of_ten_thousand_endpoints_may_fail() {
    crowded(10_000, 3).await;
}
