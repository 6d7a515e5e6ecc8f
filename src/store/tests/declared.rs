//! What files declare: one change, whatever the disk does in the middle of it.

use std::collections::BTreeSet;

use super::images::{ask, each_image, open_on, quiet};
use super::*;
use crate::model::{ManagedBy, Organization};
use crate::store::command::{Declared, DeclaredSecret, DeclaredSubscription};
use crate::store::simulated::Files;

fn organization(id: &str) -> Organization {
    let (at, managed_by) = (Timestamp::ZERO, ManagedBy::File);
    let (name, parent, bytes_max) = (String::new(), None, None);
    Organization { id: Name::from(id), name, parent, bytes_max, managed_by, created_at: at, updated_at: at }
}

fn subscription(key: &str) -> DeclaredSubscription {
    let secret = DeclaredSecret::Generated(Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())));
    let (id, settings) = (SubscriptionId::unique(), Settings { organization: Name::from("acme"), ..settings() });
    DeclaredSubscription { key: Name::from(key), id, settings, secret, status: None }
}

fn declared(keys: &[&str]) -> Declared {
    let organizations = vec![organization("acme"), organization(keys[0])];
    Declared { organizations, subscriptions: keys.iter().copied().map(subscription).collect(), ..Declared::default() }
}

/// What files own: ids of organizations and keys of subscriptions.
fn owned(store: &Store) -> BTreeSet<String> {
    let registry = store.registry();
    let keys = registry.subscriptions().filter_map(|it| it.declared.as_ref().map(|declared| declared.key.to_string()));
    let ids = registry.organizations().filter(|it| it.managed_by == ManagedBy::File).map(|it| it.id.to_string());
    keys.chain(ids.map(|id| format!("organization {id}"))).collect()
}

#[test]
fn a_crash_leaves_all_of_what_files_declare_or_nothing() {
    let (disk, clock) = (quiet(Files::default()), Clock::manual(Timestamp::from_millis(START)));
    let mut stepped = open_on(&disk, &clock).unwrap();
    let base = disk.files();
    disk.record();
    let store = stepped.store.clone();
    let mut stood = vec![owned(&store)];
    for keys in [&["a", "b", "c"][..], &["d", "b"], &["e"]] {
        let steps = ask(&mut stepped, store.declare(declared(keys))).unwrap();
        assert!(!steps.is_empty());
        assert!(ask(&mut stepped, store.declare(declared(keys))).unwrap().is_empty(), "the same again is nothing");
        stood.push(owned(&store));
    }
    assert_eq!(stood.last().unwrap().len(), 3, "{stood:?}");
    let images = each_image(base, &disk.take_recorded(), |_, image| {
        let after = open_on(&quiet(image), &clock).unwrap();
        after.check();
        let found = owned(&after.store);
        assert!(stood.contains(&found), "{found:?}");
    });
    assert!(images > 30, "{images} images");
}
