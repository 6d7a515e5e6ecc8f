//! Values that a disk may hold and its thief not read: XChaCha20-Poly1305
//! (draft-irtf-cfrg-xchacha-03) under a key of 32 bytes. Values and functions; where
//! keys lie and what is sealed is not known here.
//!
//! A sealed value is `1`, the key's id (8 bytes), a random nonce (24), the ciphertext
//! and its tag (16). **Bound to its place**: moved to another row, it opens nowhere.
//! What is not sealed is JSON, which never begins with a `1`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::secret::Secret;

const SEALED: u8 = 1;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
/// Where the ciphertext begins.
const HEAD_BYTES: usize = 1 + ID_BYTES + NONCE_BYTES;

/// A random number that is used once.
pub type Nonce = [u8; NONCE_BYTES];

/// Which key: a short digest of it, which may be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must hold 32 bytes in base64 or hex, as `posthaste key storage` writes them")]
pub struct NotAKey;

/// A key. Wiped when dropped.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    id: KeyId,
}

impl Key {
    /// The key of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Key {
        let digest = Sha256::new_with_prefix(b"posthaste storage key\0").chain_update(&bytes[..]).finalize();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        Key { bytes, id: KeyId(id) }
    }

    /// Reads 32 bytes in base64 or hex, white space around them ignored.
    pub fn read(text: &str) -> Result<Key, NotAKey> {
        let text = text.trim();
        let decoded = if text.len() == 64 { hex::decode(text).ok() } else { STANDARD.decode(text).ok() };
        let decoded = Zeroizing::new(decoded.ok_or(NotAKey)?);
        let mut bytes = Zeroizing::new([0; 32]);
        if decoded.len() != bytes.len() {
            return Err(NotAKey);
        }
        bytes.copy_from_slice(&decoded);
        Ok(Key::new(bytes))
    }

    /// What [`Key::read`] reads.
    pub fn spell(&self) -> Secret {
        Secret::new(STANDARD.encode(&self.bytes[..]))
    }

    /// Which it is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }
}

/// Where a value stands: its table and the bytes of its key.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The row's key.
    pub row: &'a [u8],
}

impl Place<'_> {
    fn associated_data(&self, key: KeyId) -> Vec<u8> {
        [b"posthaste\0", &[SEALED][..], &key.0, self.table.as_bytes(), b"\0", self.row].concat()
    }
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It was sealed under a key that is not here.
    UnknownKey(KeyId),
    /// It is not what was sealed, or not where.
    Forged,
}

/// The value has more than 256 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The key that seals, and those that may still open.
#[derive(Clone, Default)]
pub struct Keyring {
    current: Option<Key>,
    previous: Vec<Key>,
}

impl Keyring {
    /// `current`: none leaves values in clear.
    pub fn new(current: Option<Key>, previous: Vec<Key>) -> Keyring {
        Keyring { current, previous }
    }

    /// Which key seals.
    pub fn current(&self) -> Option<KeyId> {
        self.current.as_ref().map(Key::id)
    }

    /// Whether there are keys that only open.
    pub fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }

    /// Every key that opens.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.current.iter().chain(&self.previous).map(Key::id)
    }

    /// Seals a value for its place; without a current key it stays as it is.
    pub fn seal(&self, place: Place<'_>, nonce: Nonce, value: &[u8]) -> Result<Vec<u8>, TooLong> {
        let Some(key) = &self.current else { return Ok(value.to_vec()) };
        let associated_data = place.associated_data(key.id);
        let payload = Payload { msg: value, aad: &associated_data };
        let ciphertext = key.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| TooLong)?;
        Ok([&[SEALED][..], &key.id.0, &nonce, &ciphertext].concat())
    }

    /// Opens what [`Keyring::seal`] made for this place; what is in clear is as it is.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let Some(id) = key_of(sealed) else { return Ok(Zeroizing::new(sealed.to_vec())) };
        let key = self.current.iter().chain(&self.previous).find(|key| key.id == id);
        let key = key.ok_or(Unopened::UnknownKey(id))?;
        let nonce: Nonce = sealed[1 + ID_BYTES..HEAD_BYTES].try_into().map_err(|_| Unopened::Forged)?;
        let associated_data = place.associated_data(id);
        let payload = Payload { msg: &sealed[HEAD_BYTES..], aad: &associated_data };
        let opened = key.cipher().decrypt(&XNonce::from(nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| Unopened::Forged)
    }

    /// Whether a stored value is as [`Keyring::seal`] would make it now.
    pub fn is_current(&self, stored: &[u8]) -> bool {
        key_of(stored) == self.current()
    }
}

/// Under which key a stored value is sealed; none: it is in clear.
fn key_of(stored: &[u8]) -> Option<KeyId> {
    if stored.first() != Some(&SEALED) || stored.len() < HEAD_BYTES {
        return None;
    }
    stored[1..=ID_BYTES].try_into().ok().map(KeyId)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { table: "subscription", row: &[0, 0, 0, 1] };

    fn key(byte: u8) -> Key {
        Key::new(Zeroizing::new([byte; 32]))
    }

    /// The draft's own example (A.3.1), so that the cipher is the one that is named.
    #[test]
    fn the_cipher_is_the_drafts() {
        let hex = |text: &str| hex::decode(text).unwrap();
        let key: [u8; 32] = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f").try_into().unwrap();
        let nonce: Nonce = hex("404142434445464748494a4b4c4d4e4f5051525354555657").try_into().unwrap();
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                     sunscreen would be it.";
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let cipher = Key::new(Zeroizing::new(key)).cipher();
        let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: text, aad: &aad }).unwrap();
        assert_eq!(sealed[..8], hex("bd6d179d3e83d43b"));
        assert_eq!(sealed[sealed.len() - 16..], hex("c0875924c1c7987947deafd8780acf49"));
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let ring = Keyring::new(Some(key(1)), Vec::new());
        let sealed = ring.seal(HERE, [7; 24], br#"{"secret":"hunter2"}"#).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(ring.open(HERE, &sealed).unwrap().as_slice(), br#"{"secret":"hunter2"}"#);
        for place in [Place { row: &[0, 0, 0, 2], ..HERE }, Place { table: "subscription_creation", ..HERE }] {
            assert_eq!(ring.open(place, &sealed).err(), Some(Unopened::Forged), "it was moved");
        }
        // A flip in the key's id names another key; any other is found out.
        for at in 1 + ID_BYTES..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(ring.open(HERE, &forged).err(), Some(Unopened::Forged), "{at}");
        }
        assert_eq!(ring.open(HERE, &sealed[..HEAD_BYTES]).err(), Some(Unopened::Forged));
    }

    #[test]
    fn previous_keys_open_and_do_not_seal() {
        let first = Keyring::new(Some(key(1)), Vec::new());
        let sealed = first.seal(HERE, [7; 24], b"{}").unwrap();
        let second = Keyring::new(Some(key(2)), vec![key(1)]);
        assert!(second.open(HERE, &sealed).is_ok() && first.is_current(&sealed) && !second.is_current(&sealed));
        let again = second.seal(HERE, [7; 24], b"{}").unwrap();
        assert_eq!(first.open(HERE, &again).err(), Some(Unopened::UnknownKey(key(2).id())));
        assert_eq!(second.ids().collect::<Vec<_>>(), [key(2).id(), key(1).id()]);
    }

    #[test]
    fn without_a_key_values_are_in_clear() {
        let none = Keyring::default();
        assert_eq!(none.seal(HERE, [7; 24], b"{}").unwrap(), b"{}");
        assert_eq!(none.open(HERE, b"{}").unwrap().as_slice(), b"{}");
        assert!(none.is_current(b"{}") && !Keyring::new(Some(key(1)), Vec::new()).is_current(b"{}"));
    }

    #[test]
    fn keys_are_32_bytes_in_base64_or_hex() {
        let spelled = key(9).spell();
        for text in [spelled.expose(), &format!("{}\n", spelled.expose()), &hex::encode([9; 32])] {
            assert_eq!(Key::read(text).map(|key| key.id()), Ok(key(9).id()), "{text}");
        }
        for text in ["", "x", "AAAA", &hex::encode([9; 31]), &STANDARD.encode([9; 33]), &"g".repeat(64)] {
            assert_eq!(Key::read(text).err(), Some(NotAKey), "{text}");
        }
        assert_eq!(key(9).id().to_string().len(), 16);
    }
}
