//! Files that systemd hands over (`LoadCredential=`): where a setting that names a
//! file begins with `$CREDENTIALS_DIRECTORY/`, that is the folder it put them in.

use std::path::Path;

use serde_json::{Map, Value};

/// What such a setting begins with.
const BEGIN: &str = "$CREDENTIALS_DIRECTORY/";

/// Puts `folder` in place of its name in every setting whose own name ends in `_file`
/// or `_files`.
pub(super) fn resolve(table: &mut Map<String, Value>, folder: &str) {
    for (name, value) in table {
        match value {
            Value::Object(below) => resolve(below, folder),
            Value::String(file) if name.ends_with("_file") => put(file, folder),
            Value::Array(files) if name.ends_with("_files") => {
                for file in files {
                    if let Value::String(file) = file {
                        put(file, folder);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Why such a file is not there: who is no service of systemd has no such folder.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match path.starts_with(BEGIN) {
        true => "cannot be read here: systemd hands over what LoadCredential= names, to the service alone".to_owned(),
        false => format!("cannot be read: {error}"),
    }
}

fn put(file: &mut String, folder: &str) {
    if let Some(name) = file.strip_prefix(BEGIN) {
        *file = format!("{folder}/{name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_that_name_files_may_name_credentials() {
        let mut tree = json!({
            "a": {"key_file": "$CREDENTIALS_DIRECTORY/key", "name": "$CREDENTIALS_DIRECTORY/key"},
            "old_files": ["$CREDENTIALS_DIRECTORY/old", "/etc/old"],
        });
        resolve(tree.as_object_mut().expect("a table"), "/run/c");
        let resolved = json!({
            "a": {"key_file": "/run/c/key", "name": "$CREDENTIALS_DIRECTORY/key"},
            "old_files": ["/run/c/old", "/etc/old"],
        });
        assert_eq!(tree, resolved);
    }
}
