//! A temporary folder that is gone when the demonstration is.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::config::environment;

/// Removed with all that is in it when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one, for its owner alone.
    pub(super) fn make() -> Result<Folder, Failure> {
        let random = getrandom::u64().map_err(|error| Failure::failed(format!("no randomness to be had: {error}")))?;
        let path = environment::temporary_folder().join(format!("posthaste-demo-{random:016x}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", path.display())))?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans temporary folders.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left() {
        let folder = Folder::make().unwrap_or_else(|failure| panic!("{failure}"));
        let path = folder.path().to_owned();
        std::fs::write(path.join("file"), "x").expect("written");
        drop(folder);
        assert!(!path.exists());
    }
}
