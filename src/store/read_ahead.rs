//! Reads the database's file from its beginning to its end while redb checks it after a
//! crash. **redb reads it a page at a time, table by table**, and after a power cut no page
//! is in the system's memory: a disk that is asked for one after the other takes several
//! times as long as one that is read in order. What is read here is dropped: that it stays
//! in the system's page cache is all that is wanted of it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// What is read at once.
const PIECE_BYTES: usize = 1024 * 1024;
/// The part of the memory that a file may take to be read ahead: what is not
/// there any more when it is asked for was read in vain.
const MEMORY_SHARE: u64 = 2;

/// Goes on until it is dropped.
pub(super) struct ReadAhead(#[expect(dead_code, reason = "what its thread looks for")] Arc<()>);

impl ReadAhead {
    /// Begins to read `file`, where that is of use.
    pub(super) fn of(file: &Path) -> ReadAhead {
        let wanted = Arc::new(());
        let (file, watched): (PathBuf, _) = (file.to_owned(), Arc::downgrade(&wanted));
        // Without it the check takes longer, and that is all.
        let _ = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(move || read(&file, &watched));
        ReadAhead(wanted)
    }
}

/// Reads `file` while it is `wanted`. Answers how much was read.
fn read(file: &Path, wanted: &Weak<()>) -> u64 {
    let Ok(mut file) = File::open(file) else { return 0 };
    if file.metadata().map_or(u64::MAX, |found| found.len()) > memory_bytes() / MEMORY_SHARE {
        return 0;
    }
    let mut piece = vec![0; PIECE_BYTES];
    let mut read_bytes = 0;
    while wanted.strong_count() > 0 {
        match file.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(length) => read_bytes += length as u64,
        }
    }
    read_bytes
}

/// What the machine has, or this process's group may have of it.
fn memory_bytes() -> u64 {
    let told = rustix::system::sysinfo();
    // From a `long` of the system's, which has 32 bits on some.
    let machine_bytes = u64::try_from(u128::from(told.totalram) * u128::from(told.mem_unit)).unwrap_or(u64::MAX);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_memory_bytes(&groups, Path::new("/sys/fs/cgroup")).map_or(machine_bytes, |bytes| bytes.min(machine_bytes))
}

/// systemd's `MemoryMax`, where there is one. `groups` says which group is ours (cgroups(7)),
/// and `root` is where the system shows them.
fn group_memory_bytes(groups: &str, root: &Path) -> Option<u64> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    std::fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_while_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 3 * PIECE_BYTES + 1]).unwrap();
        let wanted = Arc::new(());
        let watched = Arc::downgrade(&wanted);
        assert_eq!(read(&path, &watched), 3 * PIECE_BYTES as u64 + 1);
        assert_eq!(read(&folder.path().join("none"), &watched), 0);
        drop(wanted);
        assert_eq!(read(&path, &watched), 0, "the check is over");
    }

    #[test]
    fn a_service_has_what_its_group_may_have() {
        let root = tempfile::tempdir().unwrap();
        let group = root.path().join("system.slice/posthaste.service");
        std::fs::create_dir_all(&group).unwrap();
        let ours = "1:name=systemd:/\n0::/system.slice/posthaste.service\n";
        let limited_to = |text: &str| {
            std::fs::write(group.join("memory.max"), text).unwrap();
            group_memory_bytes(ours, root.path())
        };
        assert_eq!(limited_to("67108864\n"), Some(64 << 20));
        assert_eq!(limited_to("max\n"), None);
        assert_eq!(group_memory_bytes("0::/\n", root.path()), None, "the root has no limit");
        assert_eq!(group_memory_bytes("9:memory:/\n", root.path()), None, "the system counts otherwise");
    }

    /// Nothing is allocated for it: the file has a length and no blocks.
    #[test]
    fn a_file_that_memory_cannot_hold_is_not_read_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        File::create(&path).unwrap().set_len(memory_bytes() / MEMORY_SHARE + 1).unwrap();
        let wanted = Arc::new(());
        assert_eq!(read(&path, &Arc::downgrade(&wanted)), 0);
    }
}
