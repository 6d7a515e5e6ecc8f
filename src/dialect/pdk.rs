//! PDK.io: which of its two kinds an event type is of. Subscriptions in this
//! format are for one of them.

use crate::pattern::Pattern;

/// The types that are an organization's; every other one is a panel's.
const ORGANIZATION_TYPES: &[&str] = &[
    "ou.created",
    "ou.deleted",
    "ou.updated",
    "panel.created",
    "panel.deleted",
    "panel.updated",
    "permission.accepted",
    "permission.created",
    "permission.deleted",
    "permission.updated",
];

/// Which kinds of events a pattern, or a list of them, can match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// An organization's.
    pub organization: bool,
    /// A panel's.
    pub panel: bool,
}

impl Kinds {
    /// What a pattern can match. Below `ou.` and `permission.` there is nothing of
    /// panels, below `panel.` there is something of both.
    pub fn of(pattern: &Pattern) -> Kinds {
        let of_both = Kinds { organization: true, panel: true };
        let organization = match pattern {
            Pattern::All => return of_both,
            Pattern::Below(prefix) if prefix.as_ref() == "panel." => return of_both,
            Pattern::Below(prefix) => prefix.starts_with("ou.") || prefix.starts_with("permission."),
            Pattern::Exact(name) => ORGANIZATION_TYPES.contains(&name.as_ref()),
        };
        Kinds { organization, panel: !organization }
    }

    /// What either can match.
    pub fn and(self, other: Kinds) -> Kinds {
        Kinds { organization: self.organization || other.organization, panel: self.panel || other.panel }
    }

    /// Whether both kinds are there, which the format does not allow.
    pub fn are_mixed(self) -> bool {
        self.organization && self.panel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (pattern, organization, panel) in [
            ("*", true, true),
            ("panel.*", true, true),
            ("ou.*", true, false),
            ("permission.*", true, false),
            ("door.*", false, true),
            ("panel.created", true, false),
            ("panel.connected", false, true),
            ("permission.accepted", true, false),
            ("door.request.allowed", false, true),
        ] {
            let parsed = Pattern::parse(pattern).expect("a pattern");
            assert_eq!(Kinds::of(&parsed), Kinds { organization, panel }, "{pattern}");
        }
    }
}
