//! Runs a document's code in its own language: the code, then a few lines that read
//! requests as JSON from standard input, and write what the code says of them.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A language that may be on the machine, or not.
pub(crate) struct Language {
    pub(crate) name: &'static str,
    /// What its blocks in documents are marked with.
    pub(crate) fence: &'static str,
    /// What runs it, in the folder of the files.
    command: &'static [&'static str],
    /// The file of the document's code.
    file: &'static str,
    /// What follows the code: in the same file, or in one of its own.
    driver: Driver,
}

enum Driver {
    Behind(&'static str),
    Beside(&'static str, &'static str),
}

/// With case-insensitive headers, as `http.server` hands them over. What comes before
/// it may define `tell`, which is given all requests at once.
pub(crate) const PYTHON: Language = Language {
    name: "Python",
    fence: "python",
    command: &["python3", "receiver.py"],
    file: "receiver.py",
    driver: Driver::Behind(
        r#"
import sys as _sys, json as _json, base64 as _base64
from email.message import Message as _Message

def _request(case):
    headers = _Message()
    for name, value in case["headers"]:
        headers[name] = value
    return case["secret"], headers, _base64.b64decode(case["body"])

_requests = [_request(case) for case in _json.load(_sys.stdin)]
if "tell" in globals():
    print(_json.dumps(tell(_requests)))
else:
    print(_json.dumps([is_genuine(*request) for request in _requests]))
"#,
    ),
};

/// With headers in lower case, as `node:http` hands them over.
pub(crate) const NODE: Language = Language {
    name: "Node",
    fence: "js",
    command: &["node", "receiver.mjs"],
    file: "receiver.mjs",
    driver: Driver::Behind(
        r#"
import { readFileSync } from "node:fs"
const cases = JSON.parse(readFileSync(0, "utf8"))
const judged = cases.map(({ secret, headers, body }) =>
  isGenuine(secret, Object.fromEntries(headers), Buffer.from(body, "base64")))
console.log(JSON.stringify(judged))
"#,
    ),
};

/// A file of its own, because imports stand at a file's beginning.
pub(crate) const GO: Language = Language {
    name: "Go",
    fence: "go",
    command: &["go", "run", "receiver.go", "driver.go"],
    file: "receiver.go",
    driver: Driver::Beside(
        "driver.go",
        r#"package main

import (
	"encoding/json"
	"net/http"
	"os"
)

func main() {
	var cases []struct {
		Secret  string
		Headers [][2]string
		Body    []byte
	}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	judged := []bool{}
	for _, one := range cases {
		headers := http.Header{}
		for _, header := range one.Headers {
			headers.Add(header[0], header[1])
		}
		judged = append(judged, IsGenuine(one.Secret, headers, one.Body))
	}
	if err := json.NewEncoder(os.Stdout).Encode(judged); err != nil {
		panic(err)
	}
}
"#,
    ),
};

impl Language {
    /// What the code makes of `input`. None: the language is not on this machine.
    pub(crate) fn run(&self, code: &str, input: &Value) -> Option<Value> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        match self.driver {
            Driver::Behind(driver) => write(self.file, format!("{code}{driver}")),
            Driver::Beside(name, driver) => {
                write(self.file, code.replace("package webhooks", "package main"));
                write(name, driver.to_owned());
            }
        }
        let spawned = Command::new(self.command[0])
            .args(&self.command[1..])
            .current_dir(&folder)
            // Go alone asks for these: no modules, nothing outside the folder.
            .env("GO111MODULE", "off")
            .env("GOCACHE", folder.path().join("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("skipped: {} is not on this machine", self.name);
                return None;
            }
            spawned => spawned.unwrap(),
        };
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{} ended with {}", self.name, output.status);
        Some(serde_json::from_slice(&output.stdout).unwrap())
    }
}
