//! Processes of this very program in another role. They are spoken to in lines of
//! JSON and end with their standard input, so that none outlives the benchmark.

use std::process::Stdio;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What this process runs, also when the file has been built anew since.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Another process; killed when dropped.
pub(crate) struct Peer {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts this program as `role` with that to do.
    pub(crate) fn start(role: &str, task: &impl Serialize) -> Peer {
        let mut child = Command::new(THIS_PROGRAM)
            .args(["--role", role, "--task", &serde_json::to_string(task).unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Peer { _child: child, input, output: BufReader::new(output).lines() }
    }

    pub(crate) async fn tell(&mut self, what: &impl Serialize) {
        let line = serde_json::to_string(what).unwrap() + "\n";
        self.input.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn hear<T: DeserializeOwned>(&mut self) -> T {
        let line = self.output.next_line().await.unwrap().expect("the other process goes on");
        serde_json::from_str(&line).unwrap()
    }
}

/// In the other process: says `what` to the one that started it.
pub(crate) fn say(what: &impl Serialize) {
    println!("{}", serde_json::to_string(what).unwrap());
}

/// In the other process: the runtime it works on.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let threads = crate::machine::peer_threads();
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap()
}
