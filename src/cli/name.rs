//! Which subscription is meant: by its id, its number, or its name where no other has it.

use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::Value;

use super::client::{Client, ClientArgs};
use super::{Failure, on_runtime, output};
use crate::id::SubscriptionId;
use crate::limits::{COMPLETION_TIMEOUT, COMPLETIONS_MAX};

/// The subscription that a command is about.
#[derive(clap::Args)]
pub(super) struct Named {
    /// The subscription: its id, its number, or its name where no other has it
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions))]
    subscription: String,
}

impl Named {
    /// The subscription as the API shows it.
    pub(super) async fn find(&self, client: &Client) -> Result<Value, Failure> {
        find(client, &self.subscription).await
    }

    /// The path of the subscription, and of what is below it.
    pub(super) async fn path(&self, client: &Client, below: &str) -> Result<String, Failure> {
        path(client, &self.subscription, below).await
    }
}

/// The same for a name that stands elsewhere.
pub(super) async fn path(client: &Client, name: &str, below: &str) -> Result<String, Failure> {
    let id = match name.parse::<SubscriptionId>() {
        Ok(id) => id.to_string(),
        Err(_) => find(client, name).await?["id"].as_str().unwrap_or_default().to_owned(),
    };
    Ok(format!("/v1/subscriptions/{id}{below}"))
}

async fn find(client: &Client, name: &str) -> Result<Value, Failure> {
    if let Ok(id) = name.parse::<SubscriptionId>() {
        return client.get(&format!("/v1/subscriptions/{id}")).await?.accepted();
    }
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let by = if is_number { "number" } else { "name" };
    let mut found = client.list("/v1/subscriptions", &[(by, Some(name))], COMPLETIONS_MAX).await?;
    if found.len() > 1 {
        let numbers: Vec<String> = found.iter().map(|it| it["number"].to_string()).collect();
        let message =
            format!("{} subscriptions are named {name}: say which by number: {}", found.len(), numbers.join(", "));
        return Err(Failure::refused(message));
    }
    found.pop().ok_or_else(|| {
        Failure::refused(format!("no subscription has the {by} {name}: `posthaste subscriptions list` shows them all"))
    })
}

/// The names that begin as what is typed, or the numbers where it is digits. The daemon is the one of
/// the environment, and a shell is never kept waiting for it: then there are none.
pub(super) fn completions(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let mut candidates = Vec::new();
    let asked = on_runtime(async {
        let client = Client::new(ClientArgs::default())?;
        let asked = client.list("/v1/subscriptions", &[], COMPLETIONS_MAX);
        let found = tokio::time::timeout(COMPLETION_TIMEOUT, asked).await;
        let found = found.unwrap_or(Ok(Vec::new()))?;
        candidates
            .extend(found.iter().map(|it| as_candidate(it, &typed)).filter(|(word, _)| word.starts_with(&*typed)));
        Ok(())
    });
    if asked.is_err() {
        return Vec::new();
    }
    candidates.into_iter().map(|(word, help)| CompletionCandidate::new(word).help(Some(help.into()))).collect()
}

/// The word that names it, and what tells it from others. Shells put the word into the
/// line as it is, and whoever may make subscriptions chooses names: one that a shell
/// would read in its own way, or that means a number, is not offered.
fn as_candidate(subscription: &Value, typed: &str) -> (String, String) {
    let text = |member: &str| subscription[member].as_str().unwrap_or_default();
    let name = text("name");
    let is_plain = |character: char| character.is_alphanumeric() || "._-".contains(character);
    let is_word = name.starts_with(char::is_alphabetic) && name.chars().all(is_plain);
    let by_name = is_word && !typed.starts_with(|first: char| first.is_ascii_digit());
    let word = if by_name { name.to_owned() } else { subscription["number"].to_string() };
    (word, output::printable(text("url")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A name of `$(…)` was completed into the operator's line, where the shell ran it.
    #[test]
    fn only_a_name_that_is_a_word_is_put_into_a_line() {
        for (name, typed, word) in [
            ("front-door_2.a", "", "front-door_2.a"),
            ("front", "fr", "front"),
            ("türe", "", "türe"),
            ("front", "1", "12"),
            ("", "", "12"),
            ("7", "", "12"),
            ("-f", "", "12"),
            ("a b", "", "12"),
            ("a\nb", "", "12"),
            ("x$(reboot)", "x", "12"),
            ("x;reboot", "", "12"),
            ("`reboot`", "", "12"),
        ] {
            let subscription = json!({"name": name, "number": 12, "url": "https://a.example/\u{1b}"});
            let wanted = (word.to_owned(), "https://a.example/\\u{1b}".to_owned());
            assert_eq!(as_candidate(&subscription, typed), wanted, "{name:?}");
        }
    }
}
