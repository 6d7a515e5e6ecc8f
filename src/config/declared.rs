//! The folder in which files declare organizations, sources, event types and
//! subscriptions: TOML to one tree of JSON that has the API's fields, with the file
//! and line of every key. Knows of no field but the `*_file` twins, which it puts the
//! files' contents in the place of. **A folder that is missing or cannot be read is a
//! fault, not an empty one.**

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{ConfigErrors, LocatedFault, Place, document, load, open_to_everybody};
use crate::input::{Faults, Fields, kind};
use crate::limits::{DECLARED_BYTES_MAX, DECLARED_FILES_MAX, PEM_BYTES_MAX};
use crate::model::Fault;

/// Kinds of things that files declare: each a table of tables.
pub const KINDS: [&str; 4] = ["organizations", "sources", "event_types", "subscriptions"];

/// Fields of a subscription that a file of their own may hold, the table they stand
/// in, and whether they are secret.
const TWINS: &[(&str, &str, bool)] = &[
    ("", "secret", true),
    ("authentication", "password", true),
    ("authentication", "token", true),
    ("authentication", "client_secret", true),
    ("tls", "client_key_pem", true),
    ("tls", "client_cert_pem", false),
    ("tls", "ca_pem", false),
];

/// What the files of a folder say, and where.
pub struct Declarations {
    /// Of each of [`KINDS`], what is declared by its key, in the API's fields.
    pub tree: Map<String, Value>,
    /// The folder, then its files.
    files: Vec<PathBuf>,
    /// The file and the line of every path.
    places: HashMap<String, (usize, usize)>,
    faults: Vec<(usize, LocatedFault)>,
}

/// Everything that is wrong with declarations, file by file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclarationErrors(pub Vec<ConfigErrors>);

impl fmt::Display for DeclarationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> = self.0.iter().map(ConfigErrors::to_string).collect();
        f.write_str(&told.join("\n"))
    }
}

impl std::error::Error for DeclarationErrors {}

impl Declarations {
    /// Reads the `*.toml` files of `folder`, in the order of their names; hidden ones
    /// and others are left alone. What is wrong is told by [`Declarations::judged`].
    pub fn read(folder: &Path) -> Declarations {
        let tree = KINDS.map(|kind| (kind.to_owned(), Value::Object(Map::new()))).into_iter().collect();
        let (files, places, faults) = (vec![folder.to_owned()], HashMap::new(), Vec::new());
        let mut declarations = Declarations { tree, files, places, faults };
        match files_of(folder) {
            Ok(files) => {
                let mut bytes_left = DECLARED_BYTES_MAX;
                for file in files {
                    declarations.files.push(file);
                    declarations.read_last(&mut bytes_left);
                }
            }
            Err(message) => declarations.fault_of_file(message),
        }
        declarations
    }

    /// What others `read` of the tree.
    ///
    /// # Errors
    /// With all faults: those of the files, and those of the tree with their places.
    pub fn judged<T>(&self, read: Result<T, Vec<Fault>>) -> Result<T, DeclarationErrors> {
        let (read, later) = match read {
            Ok(read) => (Some(read), Vec::new()),
            Err(faults) => (None, faults),
        };
        let located = later.into_iter().map(|fault| self.locate(fault));
        let mut faults: Vec<(usize, LocatedFault)> = self.faults.iter().cloned().chain(located).collect();
        if let Some(read) = read.filter(|_| faults.is_empty()) {
            return Ok(read);
        }
        faults.sort_by(|(file, fault), (other, another)| (file, &fault.place).cmp(&(other, &another.place)));
        faults.dedup_by(|(_, fault), (_, earlier)| !fault.field.is_empty() && fault.field == earlier.field);
        let of_file = |(index, path): (usize, &PathBuf)| {
            let faults = faults.iter().filter(|(file, _)| *file == index).map(|(_, fault)| fault.clone()).collect();
            ConfigErrors { path: Some(path.clone()), faults }
        };
        let errors = self.files.iter().enumerate().map(of_file).filter(|errors| !errors.faults.is_empty());
        Err(DeclarationErrors(errors.collect()))
    }

    fn locate(&self, Fault { field, message }: Fault) -> (usize, LocatedFault) {
        let found = nearest_place(&self.places, &field);
        let place = found.map_or(Place::Nowhere, |(_, line)| Place::Line(line));
        (found.map_or(0, |(file, _)| file), LocatedFault { place, field, message })
    }

    /// A fault of the file that was added last, or of the folder.
    fn fault_of_file(&mut self, message: impl Into<String>) {
        let fault = LocatedFault { place: Place::Nowhere, field: String::new(), message: message.into() };
        self.faults.push((self.files.len() - 1, fault));
    }

    /// Reads the file that was added last.
    fn read_last(&mut self, bytes_left: &mut usize) {
        let index = self.files.len() - 1;
        let path = self.files[index].clone();
        let text = match read_text(&path, *bytes_left) {
            Ok(text) => text,
            Err(message) => return self.fault_of_file(message),
        };
        *bytes_left -= text.len();
        let mut document = match load::syntax(document::parse(&text)) {
            Ok(document) => document,
            Err(faults) => return self.faults.extend(faults.into_iter().map(|fault| (index, fault))),
        };
        let faults = Faults::new();
        faults.extend(std::mem::take(&mut document.faults));
        let (folder, is_open) = (self.files[0].clone(), open_to_everybody(&path).is_some());
        let subscriptions = document.root.get_mut("subscriptions").and_then(Value::as_object_mut);
        for (key, subscription) in subscriptions.into_iter().flatten() {
            let Some(subscription) = subscription.as_object_mut() else { continue };
            let at = document::join("subscriptions", key);
            take_twins(&at, subscription, &folder, is_open, &mut document.lines, &faults);
            take_unsigned(&at, subscription, &faults);
        }
        self.take(&document, &faults);
        for Fault { field, message } in faults.into_vec() {
            let place = nearest_place(&document.lines, &field).map_or(Place::Nowhere, Place::Line);
            self.faults.push((index, LocatedFault { place, field, message }));
        }
        let keys = document.lines.into_iter().filter(|(path, _)| !KINDS.contains(&path.as_str()));
        for (path, line) in keys {
            self.places.entry(path).or_insert((index, line));
        }
    }

    /// Adds what a file declares to the tree.
    fn take(&mut self, document: &document::Document, faults: &Faults) {
        let fields = Fields::new("", &document.root, faults);
        for name in KINDS {
            let Some(table) = fields.map(name) else { continue };
            for (key, value) in table {
                let path = document::join(name, key);
                let Some(Value::Object(known)) = self.tree.get_mut(name) else { continue };
                if known.contains_key(key) {
                    let (file, line) = self.places.get(&path).copied().unwrap_or_default();
                    let earlier = self.files[file].file_name().unwrap_or_default().display();
                    faults.add(path, format!("is declared in {earlier}:{line} too"));
                } else if value.is_object() {
                    known.insert(key.clone(), value.clone());
                } else {
                    faults.add(path, format!("must be a table, not {}", kind(value)));
                }
            }
        }
        fields.finish();
    }
}

/// The place of `path`, or of what it is a part of.
fn nearest_place<T: Copy>(places: &HashMap<String, T>, mut path: &str) -> Option<T> {
    loop {
        match (places.get(path), path.rfind(['.', '['])) {
            (Some(place), _) => return Some(*place),
            (None, Some(end)) => path = &path[..end],
            (None, None) => return None,
        }
    }
}

/// The files that count, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.len() > DECLARED_FILES_MAX {
        return Err(format!("has more than {DECLARED_FILES_MAX} files"));
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path, bytes_max: usize) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("cannot be read: it is no file".to_owned());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(bytes_max as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() > bytes_max {
        return Err(format!("is too large: all files together may have {DECLARED_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Puts the contents of files in the place of the fields that name them. What is in
/// them is never told, whatever is wrong with it.
fn take_twins(
    at: &str,
    subscription: &mut Map<String, Value>,
    folder: &Path,
    is_open: bool,
    lines: &mut HashMap<String, usize>,
    faults: &Faults,
) {
    for (inner, name, is_secret) in TWINS {
        let (table, path) = match *inner {
            "" => (Some(&mut *subscription), at.to_owned()),
            inner => (subscription.get_mut(inner).and_then(Value::as_object_mut), document::join(at, inner)),
        };
        let Some(table) = table else { continue };
        let (field, twin) = (document::join(&path, name), format!("{name}_file"));
        if *is_secret && is_open && table.contains_key(*name) {
            let message = format!("stands in a file that everybody can read; run chmod o= on it, or use {twin}");
            faults.add(&field, message);
        }
        let Some(file) = table.shift_remove(&twin) else { continue };
        let field_of_twin = document::join(&path, &twin);
        if table.contains_key(*name) {
            faults.add(field_of_twin, format!("must not stand beside {name}"));
            continue;
        }
        if let Some(line) = lines.get(&field_of_twin).copied() {
            lines.insert(field, line);
        }
        // Where it cannot be had, what is looked at later finds nothing amiss with it.
        let content = match file.as_str() {
            Some(file) if !file.is_empty() => read_secret(&folder.join(file), *is_secret),
            _ => Err(format!("must be the path of a file, not {}", kind(&file))),
        };
        match content {
            Ok(text) => table.insert((*name).to_owned(), Value::from(text)),
            Err(message) => {
                faults.add(field_of_twin, message);
                continue;
            }
        };
    }
}

fn read_secret(path: &Path, is_secret: bool) -> Result<String, String> {
    if let Some(open) = is_secret.then(|| open_to_everybody(path)).flatten() {
        return Err(open);
    }
    let text = read_text(path, PEM_BYTES_MAX).map_err(|message| match message.strip_prefix("is too large") {
        Some(_) => format!("is too large: it may have {PEM_BYTES_MAX} bytes"),
        None => message,
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// TOML has no null: `unsigned = true` says what `"secret": null` does.
fn take_unsigned(at: &str, subscription: &mut Map<String, Value>, faults: &Faults) {
    let field = document::join(at, "unsigned");
    match subscription.shift_remove("unsigned") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) if subscription.contains_key("secret") => {
            faults.add(field, "must not be true beside a secret");
        }
        Some(Value::Bool(true)) => {
            subscription.insert("secret".to_owned(), Value::Null);
        }
        Some(other) => faults.add(field, format!("must be true or false, not {}", kind(&other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder with these files, of this mode.
    fn folder(files: &[(&str, &str)], mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        }
        folder
    }

    /// Faults as they are shown, the folder left out.
    fn told(folder: &Path, later: Vec<Fault>) -> Vec<String> {
        let read = if later.is_empty() { Ok(()) } else { Err(later) };
        let errors = Declarations::read(folder).judged(read).err().map(|errors| errors.to_string()).unwrap_or_default();
        errors.replace(&format!("{}/", folder.display()), "").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_missing_folder_is_a_fault_and_an_empty_one_is_not() {
        let empty = folder(&[("README", "no TOML ["), (".hidden.toml", "[")], 0o644);
        assert!(told(empty.path(), Vec::new()).is_empty());
        let missing = empty.path().join("none");
        let told = told(&missing, Vec::new());
        assert!(told.len() == 1 && told[0].contains("cannot be read: "), "{told:?}");
    }

    #[test]
    fn every_fault_of_every_file_is_told_with_its_file_and_line() {
        let folder = folder(
            &[
                ("a.toml", "[subscriptions.orders]\nurl = \"x\"\n[subscription.b]\n"),
                ("b.toml", "[subscriptions.orders]\n[sources]\np = 1\n"),
                ("c.toml", "[sources.\n"),
                ("d.toml", "[subscriptions.d]\nunsigned = 1\nsecret_file = \"none\"\n"),
            ],
            0o600,
        );
        let told = told(folder.path(), vec![Fault::new("subscriptions.orders.url", "must be longer")]);
        let wanted = [
            "a.toml:2: subscriptions.orders.url must be longer",
            "a.toml:3: subscription is not known; did you mean \"subscriptions\"?",
            "b.toml:1: subscriptions.orders is declared in a.toml:1 too",
            "b.toml:3: sources.p must be a table, not a number",
            "c.toml:1:",
            "d.toml:2: subscriptions.d.unsigned must be true or false, not a number",
            "d.toml:3: subscriptions.d.secret_file cannot be read: ",
        ];
        assert_eq!(told.len(), wanted.len(), "{told:#?}");
        for (told, wanted) in told.iter().zip(wanted) {
            assert!(told.starts_with(wanted), "{told}\nwanted: {wanted}");
        }
    }

    #[test]
    fn twins_are_replaced_by_their_files_and_secrets_are_nobody_elses() {
        let text = "[subscriptions.a]\nsecret_file = \"s\"\n[subscriptions.a.authentication]\ntoken_file = \"s\"\n\
                    [subscriptions.b]\nunsigned = true\n";
        let folder = folder(&[("a.toml", text), ("s", "hunter2\n")], 0o600);
        let read = Declarations::read(folder.path());
        read.judged(Ok(())).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(read.tree["subscriptions"]["a"]["secret"], "hunter2");
        assert_eq!(read.tree["subscriptions"]["a"]["authentication"]["token"], "hunter2");
        assert_eq!(read.tree["subscriptions"]["b"]["secret"], Value::Null);

        std::fs::set_permissions(folder.path().join("s"), std::fs::Permissions::from_mode(0o604)).expect("mode");
        let told = self::told(folder.path(), Vec::new());
        assert!(told.len() == 2 && told[0].contains("secret_file can be read by everybody"), "{told:?}");

        let inline = "[subscriptions.a]\nsecret = \"hunter2\"\nsecret_file = \"s\"\n";
        let folder = self::folder(&[("a.toml", inline)], 0o644);
        let told = self::told(folder.path(), Vec::new());
        assert!(told[0].starts_with("a.toml:2: subscriptions.a.secret stands in a file that everybody"), "{told:?}");
        assert!(told[1].starts_with("a.toml:3: subscriptions.a.secret_file must not stand beside"), "{told:?}");
        assert!(told.iter().all(|line| !line.contains("hunter2")), "{told:?}");
    }
}
