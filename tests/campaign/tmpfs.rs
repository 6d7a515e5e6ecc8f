//! A small file system of its own, where the machine lets us make one.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// It is mounted in a name space of its own, which ends with this.
pub(crate) struct Tmpfs {
    pub(crate) path: PathBuf,
    _holder: Child,
    _folder: tempfile::TempDir,
}

impl Tmpfs {
    /// None where the machine does not allow it: says so.
    pub(crate) async fn mount(mebibytes: u32) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs -o size=$1m none \"$2\" && echo && exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh", &mebibytes.to_string()]).arg(folder.path());
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let Ok(mut holder) = spawned else {
            eprintln!("not tested: there is no unshare on this machine");
            return None;
        };
        if holder.stdout.as_mut().unwrap().read_u8().await.is_err() {
            eprintln!("not tested: this machine lets nobody mount a file system");
            return None;
        }
        // From here the mount is seen through its holder.
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.id().unwrap(), folder.path().display()));
        Some(Tmpfs { path, _holder: holder, _folder: folder })
    }

    /// Somebody else takes so many bytes, or all that is left.
    pub(crate) fn fill(&self, name: &str, most_bytes: usize) {
        let mut file = File::create(self.path.join(name)).unwrap();
        let block = [1; 4096];
        let mut taken = 0;
        while taken < most_bytes && file.write_all(&block).is_ok() {
            taken += block.len();
        }
    }

    /// And gives it back.
    pub(crate) fn give_back(&self, name: &str) {
        std::fs::remove_file(self.path.join(name)).unwrap();
    }
}
