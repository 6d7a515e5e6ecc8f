//! Holds the code to the map in `src/lib.rs`: who may name what. A boundary that is
//! only written down is crossed within a week.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Every source file outside tests, with its comments and test modules left out.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                if name.ends_with("tests.rs") || name.contains("/tests/") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                sources.push((name, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    assert!(sources.len() > 60, "the sources were not found");
    sources
}

/// Whether `code` names the path `word`, as a whole word.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let is_part = |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
        !is_part(before) && !is_part(after) && before != Some('"')
    })
}

fn check_only(word: &str, rooms: &[&str]) {
    for (name, code) in sources() {
        let may = rooms.iter().any(|room| name.starts_with(room));
        assert!(may || !names(&code, word), "src/{name} names {word}; only {rooms:?} may");
    }
}

#[test]
fn only_the_store_names_redb() {
    check_only("redb", &["store/"]);
}

#[test]
fn only_those_who_speak_http_name_hyper() {
    check_only("hyper", &["http/", "cli/"]);
    check_only("tokio_rustls", &["http/", "deliver/", "cli/"]);
}

#[test]
fn only_time_reads_the_wall_clock_and_only_config_the_environment() {
    check_only("SystemTime", &["time.rs"]);
    check_only("std::env", &["config/", "cli/demo/"]);
}

/// A transaction that began elsewhere would leave the mark of a store at rest, and after a
/// crash counters that nobody counts anew.
#[test]
fn every_transaction_of_the_writer_begins_in_one_place() {
    for (name, code) in sources().iter().filter(|(name, _)| name.starts_with("store/writer/")) {
        let begins = name == "store/writer/rest.rs";
        for word in ["schema::begin", "begin_write", ".commit()"] {
            assert!(begins || !code.contains(word), "src/{name} begins or ends a transaction");
        }
    }
}

/// A way to break the code that does not fit the code any more breaks nothing, and nobody
/// would know before the next long look.
#[test]
fn every_mutation_still_applies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches: Vec<PathBuf> =
        fs::read_dir(root.join("tests/mutations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(patches.len() > 10, "the patches were not found");
    for patch in patches {
        let mut git = std::process::Command::new("git");
        let checked = git.current_dir(root).args(["apply", "--check"]).arg(&patch).output();
        let Ok(checked) = checked else { return eprintln!("not tested: there is no git") };
        let told = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{} is stale: {told}", patch.display());
    }
}

/// `==` on texts ends at the first byte that differs, and so tells by its time how much of
/// a secret was guessed. `Secret` compares in constant time.
#[test]
fn no_secret_is_compared_as_text() {
    for (name, code) in sources() {
        let is_told = |line: &&str| line.contains("expose()") && (line.contains("==") || line.contains("!="));
        assert_eq!(code.lines().find(is_told), None, "src/{name} compares a secret's text");
    }
}

/// From the scheduler down.
const WORDS: &[&str] = &[
    "sched/",
    "registry.rs",
    "dialect/",
    "filter.rs",
    "secrecy.rs",
    "template.rs",
    "retry.rs",
    "sign.rs",
    "seal.rs",
    "pattern.rs",
    "model/",
    "input.rs",
    "json",
    "id.rs",
    "secret.rs",
    "time.rs",
    "histogram.rs",
    "limits.rs",
];

#[test]
fn the_words_name_no_runtime_no_file_and_no_socket() {
    let sources = sources();
    for room in WORDS {
        assert!(sources.iter().any(|(name, _)| name.starts_with(room)), "{room} is not there any more");
    }
    for (name, code) in &sources {
        if WORDS.iter().any(|room| name.starts_with(room)) {
            for word in ["tokio", "std::fs", "std::net::Tcp", "std::thread::spawn", "tracing", "getrandom"] {
                assert!(!names(code, word), "src/{name} names {word}");
            }
        }
    }
}

/// Rooms from the bottom up. Whoever stands higher may name who stands lower.
const FLOORS: &[&[&str]] = &[
    &["limits", "time", "secret", "histogram", "fault", "boxed"],
    &["id", "json", "sign", "seal"],
    &["template", "input", "model", "pattern", "retry", "secrecy", "filter", "dialect"],
    &["registry", "sched"],
    &["auth"],
    &["config"],
    &["http", "log"],
    &["store", "deliver"],
    &["attempt", "metrics"],
    &["api", "engine"],
    &["systemd"],
    &["app"],
    &["cli"],
    &["simulation", "fuzzing"],
];

#[test]
fn arrows_go_down() {
    let floor_of = |room: &str| FLOORS.iter().position(|floor| floor.contains(&room));
    for (name, code) in sources() {
        let room = name.split(['/', '.']).next().unwrap();
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let floor = floor_of(room).unwrap_or_else(|| panic!("the room {room} stands on no floor"));
        for (other_floor, others) in FLOORS.iter().enumerate().filter(|(other, _)| *other > floor) {
            for other in *others {
                assert!(
                    !names(&code, &format!("crate::{other}")),
                    "src/{name} names {other}, {} up",
                    other_floor - floor
                );
            }
        }
    }
}

#[test]
fn store_and_deliver_do_not_know_each_other() {
    for (name, code) in sources() {
        if name.starts_with("store/") {
            assert!(!names(&code, "crate::deliver"), "src/{name}");
        }
        if name.starts_with("deliver/") {
            assert!(!names(&code, "crate::store"), "src/{name}");
        }
    }
}
