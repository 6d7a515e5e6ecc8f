//! Signatures: HMAC, and Standard Webhooks' way of using it
//! (<https://www.standardwebhooks.com>). Values and functions; who sends and who
//! receives is not known here.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::time::Timestamp;

/// How far a signature's time may be from the receiver's, as the specification advises.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// HMAC-SHA256 (RFC 2104) of the parts, one after the other.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // RFC 2104, section 2: a key longer than a block is hashed, a shorter one is
    // filled up with zeros. Done here because a key of one block cannot be refused.
    let mut block = Zeroizing::new([0; 64]);
    match block.get_mut(..key.len()) {
        Some(start) => start.copy_from_slice(key),
        None => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let mut mac = Hmac::<Sha256>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `v1,` and 32 bytes in base64.
const SIGNATURE_CHARS: usize = 3 + 44;

/// What every Standard Webhooks secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// The text is not a Standard Webhooks secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be \"whsec_\" followed by 24 to 64 bytes in base64")]
pub struct NotASecret;

/// A Standard Webhooks key, ready to sign.
pub struct StandardKey(Zeroizing<Vec<u8>>);

impl StandardKey {
    /// Reads `whsec_` and 24 to 64 bytes in base64, padded.
    pub fn read(secret: &Secret) -> Result<StandardKey, NotASecret> {
        let encoded = secret.expose().strip_prefix(SECRET_PREFIX).ok_or(NotASecret)?;
        let key = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| NotASecret)?);
        if (24..=64).contains(&key.len()) { Ok(StandardKey(key)) } else { Err(NotASecret) }
    }

    /// The secret that these bytes are.
    pub fn spell(bytes: &[u8; 32]) -> Secret {
        let encoded = Zeroizing::new(STANDARD.encode(bytes));
        Secret::new(format!("{SECRET_PREFIX}{}", encoded.as_str()))
    }

    /// `v1,` and the base64 of the HMAC-SHA256 of `{id}.{seconds}.{body}`.
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let seconds = seconds.to_string();
        let mac = hmac_sha256(&self.0, &[id.as_bytes(), b".", seconds.as_bytes(), b".", body]);
        let mut signature = String::with_capacity(SIGNATURE_CHARS);
        signature.push_str("v1,");
        STANDARD.encode_string(mac, &mut signature);
        signature
    }
}

/// What a receiver checks: the three headers and the body, as they came.
pub struct Received<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`
    pub timestamp: &'a str,
    /// `webhook-signature`
    pub signature: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Why what was received is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// `webhook-timestamp` is not a number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// It was sent too long ago: perhaps somebody sends it again.
    #[error("it was sent too long ago")]
    TooOld,
    /// It was sent in the future: one of the clocks is wrong.
    #[error("it was sent in the future")]
    TooNew,
    /// No signature is one by a known secret over this body.
    #[error("no signature is by this secret over this body")]
    Signature,
}

/// Checks what was received against the secrets known, one of which must have
/// signed it, at a time at most `tolerance` from `now`. Compares in constant time.
pub fn verify(
    keys: &[StandardKey],
    received: &Received<'_>,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), Unverified> {
    let seconds: u64 = received.timestamp.parse().map_err(|_| Unverified::Timestamp)?;
    if now.as_secs().saturating_sub(seconds) > tolerance.as_secs() {
        return Err(Unverified::TooOld);
    }
    if seconds.saturating_sub(now.as_secs()) > tolerance.as_secs() {
        return Err(Unverified::TooNew);
    }
    let mut signed = false;
    for key in keys {
        let expected = key.sign(received.id, seconds, received.body);
        for signature in received.signature.split(' ') {
            signed |= bool::from(signature.as_bytes().ct_eq(expected.as_bytes()));
        }
    }
    if signed { Ok(()) } else { Err(Unverified::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const SECONDS: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key(secret: &str) -> Result<StandardKey, NotASecret> {
        StandardKey::read(&Secret::new(secret.to_owned()))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let long = [0xaa; 131];
        for (key, text, mac) in [
            (
                &b"Jefe"[..],
                &b"what do ya want for nothing?"[..],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &long[..],
                &b"Test Using Larger Than Block-Size Key - Hash Key First"[..],
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            let (one, other) = text.split_at(9);
            assert_eq!(hex(&hmac_sha256(key, &[one, other])), mac);
        }
    }

    #[test]
    fn the_specifications_vector_comes_out() {
        assert_eq!(key(SECRET).expect("a secret").sign(ID, SECONDS, BODY), SIGNATURE);
        let library = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        assert_eq!(library.sign(ID, SECONDS as i64, BODY).expect("signs"), SIGNATURE);
    }

    #[test]
    fn secrets_are_24_to_64_bytes() {
        let spelled = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (secret, right) in [
            (spelled(23), false),
            (spelled(24), true),
            (spelled(64), true),
            (spelled(65), false),
            ("whsec_".to_owned(), false),
            (SECRET.replace("whsec_", ""), false),
            (format!("{SECRET}!"), false),
            (spelled(32).trim_end_matches('=').to_owned(), false),
        ] {
            assert_eq!(key(&secret).is_ok(), right, "{secret}");
        }
        let made = StandardKey::spell(&[9; 32]);
        assert!(StandardKey::read(&made).is_ok() && made.expose().starts_with("whsec_"));
    }

    #[test]
    fn only_what_was_signed_verifies() {
        let other = StandardKey::spell(&[1; 32]);
        let two = format!("v1,AAAA v2,{} {SIGNATURE}", &SIGNATURE[3..]);
        let now = Timestamp::from_millis(SECONDS * 1000);
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let seconds = SECONDS.to_string();
        let later = (SECONDS + 1).to_string();
        for (id, timestamp, signature, body, at, expected) in [
            (ID, seconds.as_str(), SIGNATURE, BODY, now, Ok(())),
            (ID, &seconds, &two, BODY, now, Ok(())),
            (ID, &seconds, SIGNATURE, BODY, now + minutes(5), Ok(())),
            (ID, &seconds, SIGNATURE, BODY, now - minutes(5), Ok(())),
            (ID, &seconds, SIGNATURE, BODY, now + minutes(6), Err(Unverified::TooOld)),
            (ID, &seconds, SIGNATURE, BODY, now - minutes(6), Err(Unverified::TooNew)),
            (ID, &seconds, SIGNATURE, br#"{"test": 2432232315}"#, now, Err(Unverified::Signature)),
            (ID, &later, SIGNATURE, BODY, now, Err(Unverified::Signature)),
            ("msg_other", &seconds, SIGNATURE, BODY, now, Err(Unverified::Signature)),
            (ID, &seconds, "", BODY, now, Err(Unverified::Signature)),
            (ID, &seconds, &SIGNATURE[3..], BODY, now, Err(Unverified::Signature)),
            (ID, "soon", SIGNATURE, BODY, now, Err(Unverified::Timestamp)),
            (ID, "-1", SIGNATURE, BODY, now, Err(Unverified::Timestamp)),
        ] {
            let keys = [StandardKey::read(&other).expect("a secret"), key(SECRET).expect("a secret")];
            let received = Received { id, timestamp, signature, body };
            assert_eq!(verify(&keys, &received, at, TOLERANCE), expected, "{id} {timestamp} {signature} {at}");
            assert_ne!(verify(&keys[..1], &received, at, TOLERANCE), Ok(()));
        }
    }
}
