//! The keys of what the store holds of secrets, from the files that `[storage]` names.
//! **What is in a file is never told**, whatever is wrong with it.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{credentials, open_to_everybody};
use crate::input::Faults;
use crate::limits::KEY_FILE_BYTES_MAX;
use crate::model::Fault;
use crate::seal::{Key, Keyring, NotAKey};

/// The keys in the files that the tree names.
pub(super) fn keyring(root: &Map<String, Value>, faults: &Faults) -> Keyring {
    let read = |path: &Value, field: String| {
        let path = path.as_str().filter(|path| !path.is_empty())?;
        let key = read_key(Path::new(path));
        key.map_err(|message| faults.extend(vec![Fault::new(field, message)])).ok()
    };
    let setting = |name| root.get("storage").and_then(|storage| storage.get(name));
    let current = setting("encryption_key_file").and_then(|path| read(path, "storage.encryption_key_file".to_owned()));
    let previous = setting("previous_encryption_key_files").and_then(Value::as_array).into_iter().flatten();
    let previous = previous.enumerate().filter_map(|(index, path)| {
        let field = format!("storage.previous_encryption_key_files[{index}]");
        if path.as_str() == Some("") {
            faults.extend(vec![Fault::new(field, "must not be empty")]);
            return None;
        }
        read(path, field)
    });
    Keyring::new(current, previous.collect())
}

fn read_key(path: &Path) -> Result<Key, String> {
    if let Some(open) = open_to_everybody(path) {
        return Err(open);
    }
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path).map_err(|error| credentials::unreadable(path, &error))?;
    match file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Key::read(&text).map_err(|fault| fault.to_string()),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(NotAKey.to_string()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::config;

    #[test]
    fn keys_are_read_from_their_files_and_told_apart_from_what_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("mode");
            path
        };
        let load = |storage: &str| {
            let file = folder.path().join("config.toml");
            std::fs::write(&file, format!("[service]\nauth = \"none\"\n[storage]\n{storage}")).expect("written");
            config::load(Some(&file), [])
        };
        let (one, other) = (write("one", &format!("{}\n", "ab".repeat(32))), write("other", &"cd".repeat(32)));
        let current = format!("encryption_key_file = {one:?}\n");
        let keyring = load(&current).unwrap_or_else(|errors| panic!("{errors}")).storage.keyring;
        let first = keyring.current().expect("a key");
        assert!(!keyring.has_previous());
        let both = load(&format!("{current}previous_encryption_key_files = [{other:?}]\n"));
        let ids: Vec<_> = both.unwrap_or_else(|errors| panic!("{errors}")).storage.keyring.ids().collect();
        assert!(ids.len() == 2 && ids[0] == first && ids[1] != first);
        let told = |storage: &str| load(storage).err().expect("refused").to_string();
        assert!(told(&format!("{current}secrets_in_clear = true")).contains("beside encryption_key_file"));

        let bad = write("bad", "hunter2-is-no-key");
        let told = told(&format!("encryption_key_file = {bad:?}"));
        assert!(told.lines().count() == 1 && told.contains("must hold 32 bytes"), "{told}");
        assert!(!told.contains("hunter2"), "what is in it is not told");
    }
}
