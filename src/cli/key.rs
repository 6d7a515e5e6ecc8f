//! `posthaste key new`: a token for a caller, and its digest for the configuration.
//! `posthaste key storage`: the key that encrypts what the store holds of secrets.

use std::fmt::Write;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Failure, output};
use crate::auth::{NewToken, Role, new_token};
use crate::seal::Key;
use crate::time::Timestamp;

const EXAMPLE: &str = "Example:
  posthaste key new --name shop --role publish --organization acme

Roles: publish (events), read (everything but secrets), manage (change things),
secrets (read secrets), admin (everything). A key reaches its organizations and
all below them. The token is shown this once; the configuration holds its digest.";

const STORAGE_EXAMPLE: &str = "Example:
  posthaste key storage /etc/posthaste/storage.key

The file is new, and its owner's alone (mode 0600). Keep a copy of it apart from the
store and its backups: without it, neither can be read. To change keys, make another,
name it in [storage] encryption_key_file and the earlier one in
previous_encryption_key_files, and reload or restart: everything is encrypted anew,
`posthaste status --watch` shows how far that is, and the log says when the earlier
key can be taken away.";

/// Make keys: tokens for callers of the API, the key that encrypts secrets in the store
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(NewArgs),
    Storage(StorageArgs),
}

/// Make a key that encrypts signing secrets, passwords, tokens and private keys in the store
#[derive(clap::Args)]
#[command(after_help = STORAGE_EXAMPLE)]
struct StorageArgs {
    /// The file to make
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Make a token and the [[api_keys]] block for the configuration
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
struct NewArgs {
    /// What the audit log calls it
    #[arg(long, default_value = "ops", value_parser = parse_name)]
    name: String,
    /// What it may do; more than once for several
    #[arg(long = "role", value_name = "ROLE", default_value = "admin", value_parser = parse_role)]
    roles: Vec<Role>,
    /// An organization it reaches; more than once for several; "*": all
    #[arg(long = "organization", value_name = "ID", default_value = "*", value_parser = parse_name)]
    organizations: Vec<String>,
    /// From when on it is refused, such as 2030-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(|error| Failure::failed(format!("no randomness to be had: {error}")))?;
    match args.command {
        Command::New(args) => make_token(&args, *random),
        Command::Storage(args) => make_storage_key(&args, &Key::new(random)),
    }
}

fn make_storage_key(args: &StorageArgs, key: &Key) -> Result<(), Failure> {
    let file = args.file.display();
    write_new(&args.file, key).map_err(|error| Failure::failed(format!("{file} cannot be made: {error}")))?;
    // A relative path would start at the daemon's folder, not at this command's.
    let path = std::fs::canonicalize(&args.file).unwrap_or_else(|_| args.file.clone());
    let block = format!("[storage]\nencryption_key_file = {}", json!(path));
    let id = key.id().to_string();
    if args.json {
        return output::print(&json!({"key": id, "file": path, "toml": block}).to_string());
    }
    output::print(&format!(
        "Key {id} is in {file}. Keep a copy apart from the store and its backups: without it, neither can be read.\n\n\
         For the configuration file, then reload or restart:\n\n{block}"
    ))
}

fn write_new(path: &Path, key: &Key) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", key.spell().expose())?;
    file.sync_all()
}

fn make_token(args: &NewArgs, random: [u8; 32]) -> Result<(), Failure> {
    let NewToken { token, sha256 } = new_token(random);
    let block = block(args, &sha256);
    if args.json {
        let roles: Vec<&str> = args.roles.iter().map(|role| role.as_str()).collect();
        let key = json!({
            "token": token.expose(),
            "name": args.name,
            "sha256": sha256,
            "roles": roles,
            "organizations": args.organizations,
            "expires_at": args.expires_at.map(|at| at.to_string()),
            "toml": block,
        });
        return output::print(&key.to_string());
    }
    output::print(&format!(
        "The token, shown this once (callers send `Authorization: Bearer TOKEN`):\n\n{}\n\n\
         For the configuration file, then reload or restart:\n\n{block}",
        token.expose()
    ))
}

fn block(args: &NewArgs, sha256: &str) -> String {
    let roles: Vec<&str> = args.roles.iter().map(|role| role.as_str()).collect();
    // Without control characters, a JSON string or list of strings is a TOML one.
    let mut block = format!(
        "[[api_keys]]\nname = {}\nsha256 = \"{sha256}\"\nroles = {}\norganizations = {}",
        json!(args.name),
        json!(roles),
        json!(args.organizations)
    );
    if let Some(at) = args.expires_at {
        let _ = write!(block, "\nexpires_at = {at}");
    }
    block
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::from_name(text).ok_or_else(|| format!("must be one of {}", Role::names()))
}

fn parse_name(text: &str) -> Result<String, String> {
    let longest = crate::limits::NAME_CHARS_MAX;
    if text.is_empty() || text.chars().count() > longest || text.contains(char::is_control) {
        return Err(format!("must have 1 to {longest} characters and no control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_block_is_a_configuration_and_its_digest_the_tokens() {
        let NewToken { token, sha256 } = new_token([7; 32]);
        let args = NewArgs {
            name: "a \"shop\" \\ ü".into(),
            roles: vec![Role::Publish, Role::Read],
            organizations: vec!["acme".into(), "x y".into()],
            expires_at: Some(Timestamp::from_millis(1_900_000_000_000)),
            json: false,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.toml");
        std::fs::write(&file, block(&args, &sha256)).expect("written");
        let config = config::load(Some(&file), []).unwrap_or_else(|errors| panic!("{errors}"));
        let key = &config.api_keys[0];
        assert_eq!(key.name, args.name);
        assert_eq!(key.sha256[..], Sha256::digest(token.expose().as_bytes())[..]);
        assert_eq!(key.roles, args.roles.into_iter().collect());
        assert_eq!(key.organizations.as_ref().map(Vec::len), Some(2));
        assert_eq!(key.expires_at, args.expires_at);
    }
}
