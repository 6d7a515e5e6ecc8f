//! What the machine and the kernel say: the clock that all processes share, the
//! counters of a process, and on what all this runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use crate::figures::percentile;

/// Nanoseconds of a clock that every process reads alike and nobody sets.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Threads that one of two peers may keep busy: half of the cores, so that the peers
/// of the bare loop share the machine.
pub(crate) fn peer_threads() -> usize {
    (cores() / 2).max(1)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the processors did since the machine started, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Processors {
    all: u64,
    /// Wanted here, and given to others by the host of a virtual machine.
    stolen: u64,
}

impl Processors {
    /// Until now.
    pub(crate) fn now() -> Processors {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        // The columns behind these eight, of guests' time, are counted in the first two already.
        let ticks = stat.lines().next().unwrap().split_whitespace().skip(1).take(8);
        let ticks: Vec<u64> = ticks.map(|ticks| ticks.parse().unwrap()).collect();
        Processors { all: ticks.iter().sum(), stolen: ticks[7] }
    }

    /// How much of their time the host has taken since.
    pub(crate) fn percent_stolen_since(self) -> f64 {
        let now = Processors::now();
        now.stolen.saturating_sub(self.stolen) as f64 * 100.0 / now.all.saturating_sub(self.all).max(1) as f64
    }
}

/// What a process has used since it started.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    /// What it had the kernel read for it, from files or their cache, pipes and the like.
    pub(crate) read_bytes: f64,
    /// What went, or will go, to the disk.
    pub(crate) written_bytes: f64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Usage {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // The name, in parentheses, may hold anything; state is the first field behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap();
        Usage {
            cpu_seconds: ticks / rustix::param::clock_ticks_per_second() as f64,
            read_bytes: field(&io, "rchar:"),
            written_bytes: field(&io, "write_bytes:"),
        }
    }

    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            read_bytes: self.read_bytes - before.read_bytes,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// Memory a process has resident, in MiB.
pub(crate) fn resident_mib(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    field(&status, "VmRSS:") / 1024.0
}

/// The number behind `name` in a file of /proc.
fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// On what this runs, in one line, with what a synced write costs in `folder`.
pub(crate) fn description(folder: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let memory_gib = field(&read("/proc/meminfo"), "MemTotal:") / 1024.0 / 1024.0;
    let load = read("/proc/loadavg");
    format!(
        "{} cores, {}, {memory_gib:.0} GiB of memory, Linux {}, a synced write of 4 KiB {:.2} ms, load average {}",
        cores(),
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        synced_write_ms(folder).unwrap_or(f64::NAN),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

/// The median of some synced writes of a page, as a commit makes them.
fn synced_write_ms(folder: &Path) -> io::Result<f64> {
    let path = folder.join("synced-write");
    let file = File::create(&path)?;
    let mut took = Vec::new();
    for page in 0..100 {
        let began_at = now_ns();
        file.write_all_at(&[1; 4096], page % 10 * 4096)?;
        file.sync_data()?;
        took.push(now_ns() - began_at);
    }
    std::fs::remove_file(path)?;
    took.sort_unstable();
    Ok(percentile(&took, 0.5) as f64 / 1e6)
}
