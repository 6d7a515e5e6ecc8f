//! `docs/configuration.md`, made from `config.example.toml`, whose comments are what it says
//! of each setting; from the code it has what no comment can get wrong: whether a
//! reload is enough, and the environment variable, which is tried.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Write;

use posthaste::config::{self, AT_START};

const EXAMPLE: &str = include_str!("../../config.example.toml");

const HEAD: &str = "# Configuration

<!-- Made from config.example.toml by: cargo test --test documents write -- --ignored -->

One file, named by `posthaste serve --config FILE` or the variable `POSTHASTE_CONFIG`. It holds only what differs from the
defaults. `posthaste check --config FILE` says what is wrong, and where; a key that is not known is wrong. In the packages the
file is `/etc/posthaste/config.toml`, and [config.example.toml](../config.example.toml) with every key lies in
`/usr/share/doc/posthaste`.

A reload (`systemctl reload posthaste`, SIGHUP) puts everything in force, or nothing. A setting that is marked *restart* stays as
it was until the next start, and the log names it.

";

const VARIABLES: &str = "## Variables that are no settings

| variable | |
|---|---|
| `POSTHASTE_CONFIG` | the configuration file, where `--config` does not say |
| `POSTHASTE_URL` | the API that the command line calls, where `--url` and `--socket` do not say |
| `POSTHASTE_TOKEN` | the key that the command line shows, where `--token-file` and `--token` do not say |
| `POSTHASTE_SECRET` | the signing secret of `sign`, `verify` and `listen`, where `--secret-file` and `--secret` do not say |
| `NO_COLOR` | set: nothing is coloured |

Any other variable that begins with `POSTHASTE_` is refused, so that a misspelt one is not passed over.
";

/// What stands in the file.
enum Item<'a> {
    /// `[name]`, or `#[[name]]`: a list of tables, absent by default.
    Table { name: &'a str, is_list: bool },
    /// `name = value`; with a `#` before it where it is absent by default.
    Setting { name: &'a str, value: &'a str, is_absent: bool },
}

/// The head of the file in paragraphs, then each item with the comment before it.
fn read(text: &str) -> (Vec<String>, Vec<(Item<'_>, String)>) {
    let (head, rest) = text.split_once("\n\n").unwrap();
    let comment = |line: &str| line.strip_prefix('#').unwrap().trim_start().to_owned() + "\n";
    let head: String = head.lines().map(comment).collect();
    let (mut items, mut said) = (Vec::new(), String::new());
    for line in rest.lines() {
        if line.is_empty() {
            assert!(said.is_empty(), "a comment that belongs to nothing: {said}");
        } else if line == "#" || line.starts_with("# ") {
            said += &comment(line);
        } else {
            let shown = line.strip_prefix('#').unwrap_or(line);
            let is_absent = shown.len() < line.len();
            let item = match shown.split_once(" = ") {
                Some((name, value)) => Item::Setting { name, value, is_absent },
                None => Item::Table { name: shown.trim_matches(['[', ']']), is_list: shown.starts_with("[[") },
            };
            // Two settings in a row may share what is said before the first.
            let shares = said.is_empty() && matches!(item, Item::Setting { .. });
            let before = items.last().filter(|_| shares).map(|(_, before): &(Item<'_>, String)| before.clone());
            items.push((item, before.unwrap_or(std::mem::take(&mut said))));
        }
    }
    (head.split("\n\n").map(str::to_owned).collect(), items)
}

/// Text as Markdown: outside of code no asterisk is more than one.
fn prose(text: &str) -> String {
    let parts = text.trim_end().split('`').enumerate();
    let escaped: Vec<String> =
        parts.map(|(at, part)| if at % 2 == 0 { part.replace('*', "\\*") } else { part.into() }).collect();
    escaped.join("`")
}

/// What puts another value of the setting in force.
fn takes(path: &str) -> &'static str {
    let (table, _) = path.rsplit_once('.').unwrap();
    match AT_START.iter().find(|(name, _)| *name == path || *name == table) {
        None => "reload",
        Some((name, _)) if *name == path => "restart",
        Some(_) => "reload; where there was none before, or shall be none, restart",
    }
}

/// The variable that sets it, which the configuration takes with `value`.
fn variable(path: &str, value: &str) -> String {
    let name = format!("POSTHASTE_{}", path.replace('.', "_").to_ascii_uppercase());
    let plain = value.trim_matches(['[', ']']).replace('"', "");
    let variables = [("POSTHASTE_SERVICE_AUTH", "none"), (&name, &plain)];
    let variables = variables.into_iter().filter(|(other, _)| path != "service.auth" || *other == name);
    let loaded = config::load(None, variables.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    let told = loaded.err().map(|errors| errors.to_string()).unwrap_or_default();
    assert!(path == "service.auth" || told.is_empty(), "{told}");
    assert!(!told.contains("is not known"), "{told}");
    name
}

/// The document.
pub(crate) fn document() -> String {
    let (head, items) = read(EXAMPLE);
    let mut text = HEAD.to_owned();
    // The first two say what the file is.
    for paragraph in &head[2..] {
        writeln!(text, "{}\n", prose(paragraph)).unwrap();
    }
    let (mut table, mut shown) = (String::new(), HashSet::new());
    for (item, said) in items {
        match item {
            Item::Table { name, is_list } => {
                table = name.to_owned();
                if shown.insert(name.to_owned()) {
                    let name = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
                    writeln!(text, "## `{name}`\n").unwrap();
                    if !said.is_empty() {
                        writeln!(text, "{}\n", prose(&said)).unwrap();
                    }
                }
            }
            Item::Setting { name, value, is_absent } => {
                let path = format!("{table}.{name}");
                if !shown.insert(path.clone()) {
                    continue;
                }
                let (kind, variable) = match is_absent {
                    true => ("for example", String::new()),
                    false => ("default", format!(" · `{}`", variable(&path, value))),
                };
                assert!(!said.is_empty(), "nothing says what {path} is");
                writeln!(text, "### `{path}`\n\n{kind} `{value}`{variable} · {}\n", takes(&path)).unwrap();
                writeln!(text, "{}\n", prose(&said)).unwrap();
            }
        }
    }
    for (name, _) in AT_START {
        assert!(shown.contains(*name), "{name} is no setting");
    }
    text + VARIABLES
}
