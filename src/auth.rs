//! Who calls, and what they may. Holds digests of tokens, never tokens.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::model::Name;
use crate::model::named;
use crate::registry::Registry;
use crate::secret::Secret;
use crate::time::Timestamp;

named! {
    /// What a key may do.
    Role {
        /// Publish events.
        Publish = "publish",
        /// Read everything but secrets.
        Read = "read",
        /// Change subscriptions, organizations, sources, event types, deliveries.
        Manage = "manage",
        /// Read secrets, lower secrecy levels.
        Secrets = "secrets",
        /// Everything, and the audit log.
        Admin = "admin",
    }
}

/// A set of roles: one bit for each, so that who calls is known without allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Whether this one is among them.
    pub fn contains(self, role: Role) -> bool {
        self.0 & Roles::bit(role) != 0
    }

    fn bit(role: Role) -> u8 {
        1 << role as u8
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        Roles(roles.into_iter().fold(0, |bits, role| bits | Roles::bit(role)))
    }
}

/// Whether callers need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// They do.
    Keys,
    /// They do not: only on loopback and Unix sockets.
    None,
}

/// An API key, as configured.
#[derive(Clone)]
pub struct ApiKey {
    /// What the audit log calls it.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it may do.
    pub roles: Roles,
    /// Organizations it reaches, each with its descendants; none: all (`*`).
    pub organizations: Option<Vec<Name>>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Requests that it may make in a second; 0: any number; none: as many as any key.
    pub requests_per_second: Option<u32>,
}

/// What every token begins with, so that people and scanners know one when they see it.
const TOKEN_PREFIX: &str = "ph_";

/// Who asks without a key.
const ANONYMOUS: &str = "anonymous";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of the key: the actor of what the caller changes.
    pub name: String,
    roles: Roles,
    organizations: Option<Vec<Name>>,
    /// See [`ApiKey::requests_per_second`].
    pub requests_per_second: Option<u32>,
}

/// Why a caller is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No bearer token, or one that is nobody's.
    #[error("a bearer token of a known API key is needed")]
    Unknown,
    /// The key's time is over.
    #[error("the API key has expired")]
    Expired,
}

/// Finds out who sends `authorization`, the value of that header, which is a token
/// behind `Bearer` or another of `schemes`. The token's digest is compared with every key's, each in constant time, so that the time
/// it takes tells nothing about any of them.
pub fn authenticate(
    auth: Auth,
    keys: &[ApiKey],
    authorization: Option<&[u8]>,
    schemes: &[&str],
    now: Timestamp,
) -> Result<Caller, AuthError> {
    if auth == Auth::None {
        let roles = Role::ALL.iter().copied().collect();
        return Ok(Caller { name: ANONYMOUS.to_owned(), roles, organizations: None, requests_per_second: None });
    }
    let token = authorization.and_then(|it| credentials(it, schemes)).ok_or(AuthError::Unknown)?;
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut found = None;
    for key in keys {
        if bool::from(key.sha256.ct_eq(&digest)) {
            found = Some(key);
        }
    }
    let key = found.ok_or(AuthError::Unknown)?;
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(AuthError::Expired);
    }
    Ok(Caller {
        name: key.name.clone(),
        roles: key.roles,
        organizations: key.organizations.clone(),
        requests_per_second: key.requests_per_second,
    })
}

/// The token of `Bearer TOKEN`, or of another of `schemes`; the scheme's case is free
/// (RFC 9110, section 11.1).
fn credentials<'a>(authorization: &'a [u8], schemes: &[&str]) -> Option<&'a [u8]> {
    let space = authorization.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = authorization.split_at(space);
    let mut known = ["bearer"].iter().chain(schemes);
    let token = token.trim_ascii();
    (known.any(|known| scheme.eq_ignore_ascii_case(known.as_bytes())) && !token.is_empty()).then_some(token)
}

impl Caller {
    /// A caller that was not asked for a key, and may do nothing that needs one.
    pub fn nobody() -> Caller {
        let (roles, organizations) = (Roles::default(), Some(Vec::new()));
        Caller { name: ANONYMOUS.to_owned(), roles, organizations, requests_per_second: None }
    }

    /// Whether the key has this role; `admin` has every one.
    pub fn may(&self, role: Role) -> bool {
        self.roles.contains(role) || self.roles.contains(Role::Admin)
    }

    /// Whether the key is for all organizations, those not made yet included.
    pub fn reaches_all(&self) -> bool {
        self.organizations.is_none()
    }

    /// The organization the key is for, where it names exactly one.
    pub fn only_organization(&self) -> Option<&Name> {
        match self.organizations.as_deref()? {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the key is for `organization` or one above it. One that does not
    /// exist is reached by nobody but keys for all.
    pub fn reaches(&self, registry: &Registry, organization: &str) -> bool {
        match &self.organizations {
            None => true,
            Some(own) => registry.lineage(organization).any(|above| own.contains(&above.id)),
        }
    }

    /// Every organization the key reaches; none: all.
    pub fn reached(&self, registry: &Registry) -> Option<Vec<Name>> {
        let own = self.organizations.as_ref()?;
        let all: BTreeSet<Name> = own.iter().flat_map(|organization| registry.descendants(organization)).collect();
        Some(all.into_iter().collect())
    }
}

/// A new token.
pub struct NewToken {
    /// What the caller sends; shown once.
    pub token: Secret,
    /// What the configuration holds: SHA-256 of the token, in hex.
    pub sha256: String,
}

/// Makes a token from random bytes.
pub fn new_token(random: [u8; 32]) -> NewToken {
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let sha256 = Sha256::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    NewToken { token: Secret::new(token), sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Organization;

    const NOW: Timestamp = Timestamp::ZERO;

    fn key(name: &str, token: &str, roles: &[Role], organizations: Option<&[&str]>) -> ApiKey {
        ApiKey {
            name: name.to_owned(),
            sha256: Sha256::digest(token).into(),
            roles: roles.iter().copied().collect(),
            organizations: organizations.map(|own| own.iter().map(|name| Name::from(*name)).collect()),
            expires_at: None,
            requests_per_second: None,
        }
    }

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for (id, parent) in [("acme", None), ("acme-eu", Some("acme")), ("acme-de", Some("acme-eu")), ("other", None)] {
            registry.put_organization(Organization {
                id: Name::from(id),
                name: String::new(),
                parent: parent.map(Name::from),
                bytes_max: None,
                managed_by: crate::model::ManagedBy::Api,
                created_at: NOW,
                updated_at: NOW,
            });
        }
        registry
    }

    #[test]
    fn callers_are_known_by_their_token() {
        let mut expired = key("old", "ph_old", &[Role::Read], None);
        expired.expires_at = Some(Timestamp::from_millis(5));
        let keys = [key("ops", "ph_ops", &[Role::Admin], None), key("app", "ph_app", &[Role::Publish], None), expired];
        for (header, now, outcome) in [
            (Some("Bearer ph_ops"), 9, Ok("ops")),
            (Some("bearer  ph_app "), 9, Ok("app")),
            (Some("Bearer ph_old"), 4, Ok("old")),
            (Some("Bearer ph_old"), 5, Err(AuthError::Expired)),
            (Some("Bearer ph_oops"), 9, Err(AuthError::Unknown)),
            (Some("Bearer "), 9, Err(AuthError::Unknown)),
            (Some("Token ph_ops"), 9, Ok("ops")),
            (Some("Basic ph_ops"), 9, Err(AuthError::Unknown)),
            (Some("ph_ops"), 9, Err(AuthError::Unknown)),
            (None, 9, Err(AuthError::Unknown)),
        ] {
            let caller =
                authenticate(Auth::Keys, &keys, header.map(str::as_bytes), &["token"], Timestamp::from_millis(now));
            assert_eq!(caller.as_ref().map(|caller| caller.name.as_str()), outcome.as_ref().copied(), "{header:?}");
        }
        let anybody = authenticate(Auth::None, &keys, None, &[], NOW).expect("no key is needed");
        assert_eq!(anybody.name, "anonymous");
        assert!(Role::ALL.iter().all(|role| anybody.may(*role)) && anybody.reaches_all());
    }

    #[test]
    fn roles_are_their_own_but_for_admin() {
        for role in Role::ALL {
            let caller =
                authenticate(Auth::Keys, &[key("k", "t", &[*role], None)], Some(b"Bearer t"), &[], NOW).expect("known");
            for asked in Role::ALL {
                assert_eq!(caller.may(*asked), role == asked || *role == Role::Admin, "{role} asked for {asked}");
            }
        }
    }

    #[test]
    fn a_key_reaches_its_organizations_and_what_is_below() {
        let registry = registry();
        let caller = |organizations| {
            let key = key("k", "t", &[Role::Read], organizations);
            authenticate(Auth::Keys, &[key], Some(b"Bearer t"), &[], NOW).expect("known")
        };
        for (own, reached) in [
            (Some(&["acme"][..]), &["acme", "acme-de", "acme-eu"][..]),
            (Some(&["acme-eu"]), &["acme-de", "acme-eu"]),
            (Some(&["acme-de", "other"]), &["acme-de", "other"]),
            (Some(&[]), &[]),
        ] {
            let caller = caller(own);
            assert_eq!(caller.reached(&registry), Some(reached.iter().map(|name| Name::from(*name)).collect()));
            for organization in registry.organizations() {
                let expected = reached.contains(&organization.id.as_ref());
                assert_eq!(caller.reaches(&registry, &organization.id), expected, "{own:?} {}", organization.id);
            }
            assert!(!caller.reaches_all() && !caller.reaches(&registry, "unknown"));
            let only = (own == Some(&["acme"][..]) || own == Some(&["acme-eu"])).then(|| own.unwrap_or_default()[0]);
            assert_eq!(caller.only_organization().map(|it| it.as_ref()), only, "{own:?}");
        }
        let all = caller(None);
        assert!(all.reaches_all() && all.reaches(&registry, "unknown") && all.reached(&registry).is_none());
        assert_eq!(all.only_organization(), None);
    }

    #[test]
    fn a_new_token_is_known_by_its_digest() {
        let made = new_token([7; 32]);
        assert!(made.token.expose().starts_with("ph_BwcH"));
        assert_eq!(made.token.expose().len(), 3 + 43);
        let digest: [u8; 32] = Sha256::digest(made.token.expose()).into();
        assert_eq!(made.sha256, digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }
}
