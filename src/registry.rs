//! Everything that is configured, in memory: organizations, sources, the catalog,
//! subscriptions, and the index that finds an event's subscriptions.
//!
//! **Matching costs what its candidates cost**, not what all subscriptions do:
//! the index is keyed by owner (organization or source) and by pattern. Holds no
//! storage: the store keeps it in step with what it commits.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foldhash::HashMap;
use rustc_hash::FxHashMap;

use crate::dialect;
use crate::filter;
use crate::id::{Lane, SubscriptionId};
use crate::limits::ORGANIZATION_DEPTH_MAX;
use crate::model::{Event, EventType, Name, OPERATIONAL_PREFIX, Organization, Scope, Settings, Source, Subscription};
use crate::pattern::Pattern;
use crate::secrecy::{self, Rule};

/// Whose events a group of subscriptions gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Organization(Name),
    Tree(Name),
    /// A source with its organization: once it has moved to another one, those
    /// that asked for it where it was do not follow it.
    Source(Name, Name),
}

/// The subscriptions of one owner, by pattern.
#[derive(Clone, Default)]
struct Patterns {
    all: BTreeSet<Lane>,
    below: HashMap<Name, BTreeSet<Lane>>,
    exact: HashMap<Name, BTreeSet<Lane>>,
}

impl Patterns {
    fn lanes_mut(&mut self, pattern: &Pattern) -> &mut BTreeSet<Lane> {
        match pattern {
            Pattern::All => &mut self.all,
            Pattern::Below(prefix) => self.below.entry(prefix.clone()).or_default(),
            Pattern::Exact(name) => self.exact.entry(name.clone()).or_default(),
        }
    }

    fn drop_empty(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::All => {}
            Pattern::Below(prefix) => drop_if_empty(&mut self.below, prefix),
            Pattern::Exact(name) => drop_if_empty(&mut self.exact, name),
        }
    }

    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.below.is_empty() && self.exact.is_empty()
    }

    fn collect(&self, event_type: &str, lanes: &mut Vec<Lane>) {
        if !event_type.starts_with(OPERATIONAL_PREFIX) {
            lanes.extend(&self.all);
        }
        lanes.extend(self.exact.get(event_type).into_iter().flatten());
        for (dot, _) in event_type.match_indices('.') {
            lanes.extend(self.below.get(&event_type[..=dot]).into_iter().flatten());
        }
    }
}

fn drop_if_empty(map: &mut HashMap<Name, BTreeSet<Lane>>, key: &Name) {
    if map.get(key).is_some_and(BTreeSet::is_empty) {
        map.remove(key);
    }
}

/// Why an organization cannot stand below another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// The parent does not exist.
    UnknownParent,
    /// It would be above itself.
    Cycle,
    /// The tree would be deeper than [`ORGANIZATION_DEPTH_MAX`].
    TooDeep,
}

/// See the file's beginning.
#[derive(Clone, Default)]
pub struct Registry {
    organizations: BTreeMap<Name, Organization>,
    children: BTreeSet<(Name, Name)>,
    sources: BTreeMap<Name, Source>,
    event_types: BTreeMap<Name, EventType>,
    subscriptions: BTreeMap<Lane, Arc<Subscription>>,
    by_id: HashMap<SubscriptionId, Lane>,
    by_organization: BTreeSet<(Name, Lane)>,
    ended: FxHashMap<Lane, (SubscriptionId, Name)>,
    index: HashMap<Owner, Patterns>,
}

impl Registry {
    /// One that knows the event types that come with the formats.
    pub fn with_catalog() -> Registry {
        let entries = dialect::catalog().iter().map(|entry| (entry.name.clone(), entry.clone()));
        Registry { event_types: entries.collect(), ..Registry::default() }
    }

    /// The organization of that id.
    pub fn organization(&self, id: &str) -> Option<&Organization> {
        self.organizations.get(id)
    }

    /// Every organization, by id.
    pub fn organizations(&self) -> impl Iterator<Item = &Organization> {
        self.organizations.values()
    }

    /// `id` and the organizations above it, up to the root. Empty when it does not exist.
    pub fn lineage<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a Organization> {
        let mut next = self.organizations.get(id);
        std::iter::from_fn(move || {
            let here = next?;
            next = here.parent.as_ref().and_then(|parent| self.organizations.get(parent));
            Some(here)
        })
        .take(ORGANIZATION_DEPTH_MAX)
    }

    /// `id` and every organization below it.
    pub fn descendants(&self, id: &Name) -> Vec<Name> {
        let mut found = vec![id.clone()];
        let mut next = 0;
        while next < found.len() {
            let children: Vec<Name> = self.children_of(&found[next]).cloned().collect();
            found.extend(children);
            next += 1;
        }
        found
    }

    fn children_of<'a>(&'a self, id: &Name) -> impl Iterator<Item = &'a Name> {
        let parent = id.clone();
        self.children
            .range((id.clone(), Name::from(""))..)
            .take_while(move |(above, _)| *above == parent)
            .map(|(_, child)| child)
    }

    /// How many levels `id`'s subtree has, itself counted.
    fn height(&self, id: &Name) -> usize {
        1 + self.children_of(id).map(|child| self.height(child)).max().unwrap_or(0)
    }

    /// Whether `id` may stand below `parent`.
    pub fn check_parent(&self, id: &Name, parent: &str) -> Result<(), TreeError> {
        if !self.organizations.contains_key(parent) {
            return Err(TreeError::UnknownParent);
        }
        if self.lineage(parent).any(|above| above.id == *id) {
            return Err(TreeError::Cycle);
        }
        if self.lineage(parent).count() + self.height(id) > ORGANIZATION_DEPTH_MAX {
            return Err(TreeError::TooDeep);
        }
        Ok(())
    }

    /// What still belongs to an organization and so keeps it from being deleted.
    pub fn belongings(&self, id: &Name) -> Option<&'static str> {
        if self.children_of(id).next().is_some() {
            Some("organizations")
        } else if self.sources.values().any(|source| source.organization == *id) {
            Some("sources")
        } else if self.subscriptions.values().any(|subscription| subscription.settings.organization == *id) {
            Some("subscriptions")
        } else {
            None
        }
    }

    /// The source of that id.
    pub fn source(&self, id: &str) -> Option<&Source> {
        self.sources.get(id)
    }

    /// Every source, by id.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.values()
    }

    /// The catalog's entry of that name.
    pub fn event_type(&self, name: &str) -> Option<&EventType> {
        self.event_types.get(name)
    }

    /// The whole catalog, by name.
    pub fn event_types(&self) -> impl Iterator<Item = &EventType> {
        self.event_types.values()
    }

    /// The names that the data of events of these patterns is known to have: only
    /// where the catalog knows the fields of every type they can match.
    pub fn known_fields(&self, patterns: &[Pattern]) -> Option<BTreeSet<String>> {
        let mut known = BTreeSet::new();
        for pattern in patterns {
            let Pattern::Exact(name) = pattern else { return None };
            known.extend(self.event_types.get(name)?.fields.as_ref()?.iter().cloned());
        }
        (!patterns.is_empty()).then_some(known)
    }

    /// The subscription of that id.
    pub fn subscription(&self, id: SubscriptionId) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(self.by_id.get(&id)?)
    }

    /// The subscription whose lane it is.
    pub fn lane(&self, lane: Lane) -> Option<&Arc<Subscription>> {
        self.subscriptions.get(&lane)
    }

    /// The id and the organization of the subscription whose lane it is, or was
    /// while its deliveries are retained.
    pub fn lane_owner(&self, lane: Lane) -> Option<(SubscriptionId, &Name)> {
        match self.subscriptions.get(&lane) {
            Some(subscription) => Some((subscription.id, &subscription.settings.organization)),
            None => self.ended.get(&lane).map(|(id, organization)| (*id, organization)),
        }
    }

    /// Every subscription, by number: oldest first.
    pub fn subscriptions(&self) -> impl DoubleEndedIterator<Item = &Arc<Subscription>> {
        self.subscriptions.values()
    }

    /// The subscriptions whose number is greater than `after`, oldest first.
    pub fn subscriptions_after(&self, after: Lane) -> impl Iterator<Item = &Arc<Subscription>> {
        self.subscriptions.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)).map(|(_, it)| it)
    }

    /// The subscriptions of an organization and of those below it.
    pub fn subscriptions_below(&self, id: &Name) -> impl Iterator<Item = &Arc<Subscription>> {
        let of = |owner: Name| self.by_organization.range((owner.clone(), Lane(0))..=(owner, Lane(u32::MAX)));
        self.descendants(id).into_iter().flat_map(of).filter_map(|(_, lane)| self.subscriptions.get(lane))
    }

    /// Makes or replaces an organization.
    pub fn put_organization(&mut self, organization: Organization) {
        self.remove_organization(&organization.id.clone());
        if let Some(parent) = &organization.parent {
            self.children.insert((parent.clone(), organization.id.clone()));
        }
        self.organizations.insert(organization.id.clone(), organization);
    }

    /// Forgets an organization.
    pub fn remove_organization(&mut self, id: &Name) {
        if let Some(Organization { parent: Some(parent), .. }) = self.organizations.remove(id) {
            self.children.remove(&(parent, id.clone()));
        }
    }

    /// Makes or replaces a source.
    pub fn put_source(&mut self, source: Source) {
        self.sources.insert(source.id.clone(), source);
    }

    /// Forgets a source.
    pub fn remove_source(&mut self, id: &str) {
        self.sources.remove(id);
    }

    /// Makes or replaces an entry of the catalog.
    pub fn put_event_type(&mut self, event_type: EventType) {
        self.event_types.insert(event_type.name.clone(), event_type);
    }

    /// Forgets an entry of the catalog.
    pub fn remove_event_type(&mut self, name: &str) {
        self.event_types.remove(name);
    }

    /// Makes or replaces a subscription.
    pub fn put_subscription(&mut self, subscription: Arc<Subscription>) {
        self.remove_subscription(subscription.number);
        for owner in owners(&subscription) {
            let patterns = self.index.entry(owner).or_default();
            for pattern in patterns_of(&subscription.settings).iter() {
                patterns.lanes_mut(pattern).insert(subscription.number);
            }
        }
        self.by_id.insert(subscription.id, subscription.number);
        self.by_organization.insert((subscription.settings.organization.clone(), subscription.number));
        self.subscriptions.insert(subscription.number, subscription);
    }

    /// Forgets a subscription.
    pub fn remove_subscription(&mut self, lane: Lane) {
        let Some(subscription) = self.subscriptions.remove(&lane) else { return };
        self.by_id.remove(&subscription.id);
        self.by_organization.remove(&(subscription.settings.organization.clone(), lane));
        for owner in owners(&subscription) {
            let Some(patterns) = self.index.get_mut(&owner) else { continue };
            for pattern in patterns_of(&subscription.settings).iter() {
                patterns.lanes_mut(pattern).remove(&lane);
                patterns.drop_empty(pattern);
            }
            if patterns.is_empty() {
                self.index.remove(&owner);
            }
        }
    }

    /// Remembers whose the lane of an ended subscription was.
    pub fn put_ended(&mut self, lane: Lane, id: SubscriptionId, organization: Name) {
        self.ended.insert(lane, (id, organization));
    }

    /// Forgets whose the lane of an ended subscription was.
    pub fn remove_ended(&mut self, lane: Lane) {
        self.ended.remove(&lane);
    }

    /// The enabled subscriptions that get `event`, by number.
    pub fn matching<'a>(&'a self, event: &Event, rules: &[Rule]) -> Vec<&'a Arc<Subscription>> {
        let mut lanes = Vec::new();
        let mut collect = |owner: Owner| {
            if let Some(patterns) = self.index.get(&owner) {
                patterns.collect(&event.event_type, &mut lanes);
            }
        };
        collect(Owner::Organization(event.organization.clone()));
        for above in self.lineage(&event.organization) {
            collect(Owner::Tree(above.id.clone()));
        }
        if let Some(source) = self.own_source(event) {
            collect(Owner::Source(source.organization.clone(), source.id.clone()));
        }
        // One may want it for several reasons.
        lanes.sort_unstable();
        lanes.dedup();
        lanes
            .iter()
            .filter_map(|lane| self.subscriptions.get(lane))
            .filter(|subscription| subscription.is_enabled() && passes_filter(subscription, event, rules))
            .collect()
    }

    /// Whether one subscription, enabled or not, wants `event`: what
    /// [`Registry::matching`] finds by its index.
    pub fn wants(&self, subscription: &Subscription, event: &Event, rules: &[Rule]) -> bool {
        let settings = &subscription.settings;
        let in_scope = match &settings.scope {
            Scope::Own => settings.organization == event.organization,
            Scope::Recursive => self.lineage(&event.organization).any(|above| above.id == settings.organization),
            Scope::Sources(sources) => {
                settings.organization == event.organization
                    && self.own_source(event).is_some_and(|source| sources.contains(&source.id))
            }
        };
        in_scope
            && patterns_of(settings).iter().any(|pattern| pattern.matches(&event.event_type))
            && passes_filter(subscription, event, rules)
    }

    /// The event's source, where it is registered and of the event's organization.
    fn own_source(&self, event: &Event) -> Option<&Source> {
        let source = self.sources.get(event.source.as_ref()?)?;
        (source.organization == event.organization).then_some(source)
    }
}

fn owners(subscription: &Subscription) -> Vec<Owner> {
    let organization = subscription.settings.organization.clone();
    match &subscription.settings.scope {
        Scope::Own => vec![Owner::Organization(organization)],
        Scope::Recursive => vec![Owner::Tree(organization)],
        Scope::Sources(sources) => {
            sources.iter().map(|source| Owner::Source(organization.clone(), source.clone())).collect()
        }
    }
}

/// The patterns of a subscription, and the other names that its format's vendor has
/// for what they name.
fn patterns_of(settings: &Settings) -> Cow<'_, [Pattern]> {
    let dialect = dialect::find(settings.format);
    let other = |pattern: &Pattern| match pattern {
        Pattern::Exact(name) => dialect.other_name(name).map(Pattern::Exact),
        Pattern::All | Pattern::Below(_) => None,
    };
    let others: Vec<Pattern> = settings.events.iter().filter_map(other).collect();
    if others.is_empty() {
        Cow::Borrowed(&settings.events)
    } else {
        [settings.events.as_slice(), &others].concat().into()
    }
}

fn passes_filter(subscription: &Subscription, event: &Event, rules: &[Rule]) -> bool {
    let settings = &subscription.settings;
    if settings.filter.is_empty() {
        return true;
    }
    let data = secrecy::redact(&event.data, &event.event_type, settings.secrecy_level, rules);
    filter::holds(&settings.filter, event, &data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Condition, ManagedBy, Operator, Status};
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn organization(id: &str, parent: Option<&str>) -> Organization {
        let at = Timestamp::ZERO;
        let parent = parent.map(Name::from);
        let (id, name, managed_by) = (id.into(), String::new(), ManagedBy::Api);
        Organization { id, name, parent, bytes_max: None, managed_by, created_at: at, updated_at: at }
    }

    fn source(id: &str, organization: &str) -> Source {
        let at = Timestamp::ZERO;
        let (id, name, managed_by) = (id.into(), String::new(), ManagedBy::Api);
        Source { id, name, organization: organization.into(), managed_by, created_at: at, updated_at: at }
    }

    fn subscription(lane: u32, organization: &str, scope: Scope, events: &[&str]) -> Subscription {
        let mut subscription = Subscription::sample(lane);
        subscription.settings.organization = organization.into();
        subscription.settings.scope = scope;
        subscription.settings.events = events.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        subscription
    }

    fn event(event_type: &str, organization: &str, source: Option<&str>) -> Event {
        let mut event = Event::sample(event_type, r#"{"n":1}"#);
        event.organization = organization.into();
        event.source = source.map(Name::from);
        event
    }

    fn matched(registry: &Registry, event: &Event) -> Vec<u32> {
        registry.matching(event, &[]).iter().map(|subscription| subscription.number.0).collect()
    }

    /// `top` above `mid` above `low`; `other` apart. Sources `p` of `mid`, `q` of `other`.
    fn registry() -> Registry {
        let mut registry = Registry::default();
        for (id, parent) in [("top", None), ("mid", Some("top")), ("low", Some("mid")), ("other", None)] {
            registry.put_organization(organization(id, parent));
        }
        registry.put_source(source("p", "mid"));
        registry.put_source(source("q", "other"));
        registry
    }

    fn put(registry: &mut Registry, subscription: Subscription) {
        registry.put_subscription(Arc::new(subscription));
    }

    #[test]
    fn scopes_say_whose_events_match() {
        let mut registry = registry();
        put(&mut registry, subscription(1, "mid", Scope::Own, &["*"]));
        put(&mut registry, subscription(2, "top", Scope::Recursive, &["*"]));
        put(&mut registry, subscription(3, "mid", Scope::Recursive, &["*"]));
        put(&mut registry, subscription(4, "mid", Scope::Sources(vec!["p".into(), "q".into()]), &["*"]));
        put(&mut registry, subscription(5, "top", Scope::Own, &["*"]));
        for (organization, source, lanes) in [
            ("top", None, &[2, 5][..]),
            ("mid", None, &[1, 2, 3]),
            ("mid", Some("p"), &[1, 2, 3, 4]),
            ("mid", Some("q"), &[1, 2, 3]),
            ("mid", Some("unknown"), &[1, 2, 3]),
            ("low", Some("p"), &[2, 3]),
            ("other", Some("q"), &[]),
            ("unknown", None, &[]),
        ] {
            let event = event("door.opened", organization, source);
            assert_eq!(matched(&registry, &event), lanes, "{organization} {source:?}");
        }
    }

    #[test]
    fn patterns_filters_and_status_say_which_events_match() {
        let mut registry = registry();
        put(&mut registry, subscription(1, "mid", Scope::Own, &["door.*", "door.opened", "*"]));
        put(&mut registry, subscription(2, "mid", Scope::Own, &["door.opened"]));
        put(&mut registry, subscription(3, "mid", Scope::Own, &["posthaste.*"]));
        put(&mut registry, subscription(4, "mid", Scope::Own, &[]));
        let mut disabled = subscription(5, "mid", Scope::Own, &["*"]);
        disabled.status = Status::DisabledDueToErrors;
        put(&mut registry, disabled);
        let mut filtered = subscription(6, "mid", Scope::Own, &["door.*"]);
        let (path, value) = ("/data/n".to_owned(), serde_json::json!(1));
        filtered.settings.filter = vec![Condition { path, op: Operator::Ne, value }];
        put(&mut registry, filtered);
        for (event_type, lanes) in [
            ("door.opened", &[1, 2][..]),
            ("door.request.allowed", &[1]),
            ("door", &[1]),
            ("posthaste.storage.low", &[3]),
        ] {
            assert_eq!(matched(&registry, &event(event_type, "mid", None)), lanes, "{event_type}");
        }
        let all = registry.subscriptions().map(|subscription| subscription.number.0).collect::<Vec<_>>();
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
        let later = registry.subscriptions_after(Lane(4)).map(|subscription| subscription.number.0);
        assert_eq!(later.collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn filters_see_what_secrecy_leaves() {
        let mut registry = registry();
        let mut filtered = subscription(1, "mid", Scope::Own, &["*"]);
        filtered.settings.secrecy_level = 1;
        let (path, value) = ("/data/n".to_owned(), serde_json::json!(1));
        filtered.settings.filter = vec![Condition { path, op: Operator::Eq, value }];
        put(&mut registry, filtered);
        let target = secrecy::Target::Key("n".to_owned());
        let rules = [Rule { level: 1, events: Pattern::All, target }];
        let event = event("door.opened", "mid", None);
        assert_eq!((registry.matching(&event, &[]).len(), registry.matching(&event, &rules).len()), (1, 0));
    }

    #[test]
    fn moving_changes_what_matches_from_then_on() {
        let mut registry = registry();
        put(&mut registry, subscription(1, "top", Scope::Recursive, &["*"]));
        put(&mut registry, subscription(2, "other", Scope::Recursive, &["*"]));
        put(&mut registry, subscription(3, "mid", Scope::Sources(vec!["p".into()]), &["*"]));
        let low = event("door.opened", "low", None);
        assert_eq!(matched(&registry, &low), [1]);
        registry.put_organization(organization("mid", Some("other")));
        assert_eq!(matched(&registry, &low), [2]);
        assert_eq!(registry.descendants(&"other".into()), ["other".into(), "mid".into(), "low".into()] as [Name; 3]);
        assert_eq!(registry.descendants(&"top".into()), ["top".into()] as [Name; 1]);
        registry.put_source(source("p", "low"));
        assert_eq!(matched(&registry, &event("door.opened", "low", Some("p"))), [2]);
        assert_eq!(matched(&registry, &event("door.opened", "mid", Some("p"))), [2]);
    }

    #[test]
    fn replaced_and_removed_subscriptions_leave_nothing_behind() {
        let mut registry = registry();
        let first = subscription(1, "mid", Scope::Own, &["door.*", "a.b", "*", "a.b"]);
        let id = first.id;
        put(&mut registry, first);
        put(&mut registry, subscription(1, "top", Scope::Sources(vec!["p".into(), "p".into()]), &["door.*"]));
        assert!(matched(&registry, &event("door.opened", "mid", None)).is_empty());
        assert_eq!(registry.index.len(), 1);
        assert!(registry.subscription(id).is_some() && registry.lane(Lane(1)).is_some());
        registry.remove_subscription(Lane(1));
        registry.remove_subscription(Lane(1));
        assert_eq!((registry.index.len(), registry.by_id.len(), registry.subscriptions().count()), (0, 0, 0));
        assert!(registry.subscription(id).is_none());
    }

    #[test]
    fn organizations_stay_a_tree() {
        let mut registry = registry();
        let mid = Name::from("mid");
        assert_eq!(registry.check_parent(&mid, "nowhere"), Err(TreeError::UnknownParent));
        assert_eq!(registry.check_parent(&mid, "mid"), Err(TreeError::Cycle));
        assert_eq!(registry.check_parent(&mid, "low"), Err(TreeError::Cycle));
        assert_eq!(registry.check_parent(&mid, "other"), Ok(()));
        // `mid` and `low` below a chain: 14 above them are fine, 15 are not.
        let mut parent = None;
        for depth in 1..=15 {
            let id = format!("d{depth}");
            registry.put_organization(organization(&id, parent.as_deref()));
            parent = Some(id);
        }
        assert_eq!(registry.check_parent(&mid, "d14"), Ok(()));
        assert_eq!(registry.check_parent(&mid, "d15"), Err(TreeError::TooDeep));
        assert_eq!(registry.check_parent(&"new".into(), "d15"), Ok(()));
        assert_eq!(registry.lineage("low").map(|it| it.id.as_ref()).collect::<Vec<_>>(), ["low", "mid", "top"]);
    }

    #[test]
    fn belongings_keep_an_organization() {
        let mut registry = registry();
        let belongings = |registry: &Registry, id: &str| registry.belongings(&id.into());
        assert_eq!(belongings(&registry, "top"), Some("organizations"));
        assert_eq!(belongings(&registry, "other"), Some("sources"));
        assert_eq!(belongings(&registry, "low"), None);
        put(&mut registry, subscription(1, "low", Scope::Own, &[]));
        assert_eq!(belongings(&registry, "low"), Some("subscriptions"));
        registry.remove_source("q");
        registry.remove_organization(&"low".into());
        assert_eq!((belongings(&registry, "other"), belongings(&registry, "low")), (None, Some("subscriptions")));
        assert_eq!(belongings(&registry, "mid"), Some("sources"));
    }

    #[test]
    fn fields_are_known_only_where_all_are() {
        let mut registry = Registry::default();
        for (name, fields) in [("a", Some(vec!["x"])), ("b", Some(vec!["y", "x"])), ("c", None)] {
            registry.put_event_type(EventType {
                name: name.into(),
                description: String::new(),
                category: String::new(),
                example: crate::json::Json::NULL,
                fields: fields.map(|fields| fields.into_iter().map(str::to_owned).collect()),
                format: None,
                built_in: false,
                managed_by: ManagedBy::Api,
                created_at: Timestamp::ZERO,
                updated_at: Timestamp::ZERO,
            });
        }
        for (patterns, known) in [
            (&["a"][..], Some(vec!["x"])),
            (&["a", "b"], Some(vec!["x", "y"])),
            (&["a", "c"], None),
            (&["a", "unknown"], None),
            (&["a", "b.*"], None),
            (&["*"], None),
            (&[], None),
        ] {
            let parsed: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
            let known = known.map(|names| names.into_iter().map(str::to_owned).collect());
            assert_eq!(registry.known_fields(&parsed), known, "{patterns:?}");
        }
    }

    const ORGANIZATIONS: [&str; 4] = ["a", "b", "c", "d"];
    const SOURCES: [&str; 3] = ["p", "q", "r"];

    /// A subscription's number, owner, scope and patterns, and whether it is enabled.
    type Drawn = (u32, &'static str, Scope, Vec<&'static str>, bool);

    fn any_subscription() -> impl Strategy<Value = Drawn> {
        let scope = prop_oneof![
            Just(Scope::Own),
            Just(Scope::Recursive),
            prop::sample::subsequence(SOURCES.to_vec(), 1..=3)
                .prop_map(|ids| Scope::Sources(ids.into_iter().map(Name::from).collect())),
        ];
        let patterns = vec!["*", "x.*", "x.y.*", "x.y", "x", "z", "posthaste.*", "posthaste.x"];
        let patterns = prop::sample::subsequence(patterns, 0..4);
        let owner = prop::sample::select(&ORGANIZATIONS[..]);
        (1u32..9, owner, scope, patterns, prop::bool::weighted(0.8))
    }

    proptest! {
        #[test]
        fn the_index_finds_what_wants_says(
            // Each organization's parent is one before it, or none.
            parents in prop::collection::vec(0usize..4, 4),
            owners in prop::collection::vec(prop::sample::select(&ORGANIZATIONS[..]), 3),
            subscriptions in prop::collection::vec(any_subscription(), 0..16),
            removed in prop::collection::vec(1u32..9, 0..4),
            event_type in prop::sample::select(vec!["x", "x.y", "x.y.z", "z", "posthaste.x", "w"]),
            owner in prop::sample::select(&["a", "b", "c", "d", "unknown"][..]),
            from in prop::option::of(prop::sample::select(&["p", "q", "r", "unknown"][..])),
        ) {
            let mut registry = Registry::default();
            for (index, parent) in parents.into_iter().enumerate() {
                let parent = ORGANIZATIONS[..index].get(parent).copied();
                registry.put_organization(organization(ORGANIZATIONS[index], parent));
            }
            for (id, owner) in SOURCES.into_iter().zip(owners) {
                registry.put_source(source(id, owner));
            }
            for (lane, owner, scope, patterns, enabled) in subscriptions {
                let mut subscription = subscription(lane, owner, scope, &patterns);
                if !enabled {
                    subscription.status = Status::Disabled;
                }
                put(&mut registry, subscription);
            }
            for lane in removed {
                registry.remove_subscription(Lane(lane));
            }
            let event = event(event_type, owner, from);
            let wanting = registry.subscriptions().filter(|it| it.is_enabled() && registry.wants(it, &event, &[]));
            let wanting: Vec<u32> = wanting.map(|it| it.number.0).collect();
            prop_assert_eq!(matched(&registry, &event), wanting);
            for lane in 1..9 {
                registry.remove_subscription(Lane(lane));
            }
            prop_assert_eq!(registry.index.len(), 0);
        }
    }
}
