//! Until when the certificates of receivers are valid, as they were shown in the last
//! full handshake with each endpoint. Reads of a certificate nothing but that date:
//! whether it may be trusted is for rustls to say.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::CertificateError;
use url::Host;

use super::cache::Cache;
use crate::limits::CERTIFICATES_SEEN_MAX;
use crate::time::Timestamp;

/// One entry an endpoint; the one asked for longest ago makes room.
pub(super) struct Certificates(Mutex<Cache<Endpoint, Timestamp>>);

/// Host and port: what a receiver shows depends on nothing else that we say.
pub(super) type Endpoint = (String, u16);

impl Certificates {
    /// None seen yet.
    pub(super) fn new() -> Certificates {
        Certificates(Mutex::new(Cache::new(CERTIFICATES_SEEN_MAX)))
    }

    /// `host` has shown this certificate (DER). One that never ends, or that cannot be
    /// read, leaves no entry.
    pub(super) fn shown(&self, host: Host<&str>, port: u16, certificate: &[u8]) {
        let endpoint = (host.to_string(), port);
        match valid_until(certificate) {
            Some(until) => self.cache().insert(endpoint, until),
            None => self.cache().remove(&endpoint),
        }
    }

    /// `host` has shown one that was refused; where that was for its age, the refusal says
    /// until when it was valid.
    pub(super) fn refused(&self, host: Host<&str>, port: u16, error: &rustls::Error) {
        if let rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) = error {
            let until = Timestamp::from_millis(not_after.as_secs().saturating_mul(1000));
            self.cache().insert((host.to_string(), port), until);
        }
    }

    /// Until when the one that was seen last is valid; none: none was seen.
    pub(super) fn valid_until(&self, endpoint: &Endpoint) -> Option<Timestamp> {
        self.cache().get(endpoint).copied()
    }

    fn cache(&self) -> MutexGuard<'_, Cache<Endpoint, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Tags of DER (X.690).
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// `notAfter` of an X.509 certificate (RFC 5280, section 4.1). None also for the end of
/// 9999, which says that there is no end.
fn valid_until(certificate: &[u8]) -> Option<Timestamp> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // The serial number, the signature's algorithm, the issuer.
    for expected in [INTEGER, SEQUENCE, SEQUENCE] {
        let (tag, _, rest) = element(fields)?;
        if tag != expected {
            return None;
        }
        fields = rest;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (_, _, after_not_before) = element(validity)?;
    let (tag, text, _) = element(after_not_before)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The first element of `bytes`: its tag, what it holds, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first()?;
    let (length, bytes) = match first {
        short @ 0..=0x7f => (usize::from(*short), bytes),
        // Rustls takes no handshake message of 2^24 bytes.
        long @ 0x81..=0x83 => {
            let (length, bytes) = bytes.split_at_checked(usize::from(long - 0x80))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), bytes)
        }
        _ => return None,
    };
    let (held, rest) = bytes.split_at_checked(length)?;
    Some((*tag, held, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = match tag {
        // RFC 5280, section 4.1.2.5.1: from 1950 to 2049.
        UTC_TIME if text < "5" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| &digits[from..from + 2];
    let (date, time) = ([&digits[..4], part(4), part(6)].join("-"), [part(8), part(10), part(12)].join(":"));
    format!("{date}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(not_after: (i32, u8, u8), names: usize) -> Vec<u8> {
        let names: Vec<String> = (0..names).map(|number| format!("host-{number}.example")).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let (year, month, day) = not_after;
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_date_is_read_from_both_forms_of_time_and_certificates_of_any_size() {
        for (not_after, names, expected) in [
            ((2030, 2, 28), 1, Some("2030-02-28T00:00:00Z")),
            // From 2050 on with four digits of the year.
            ((2051, 12, 31), 1, Some("2051-12-31T00:00:00Z")),
            ((1999, 1, 1), 1, Some("1999-01-01T00:00:00Z")),
            ((2030, 1, 1), 5_000, Some("2030-01-01T00:00:00Z")),
            ((9999, 12, 31), 1, None),
        ] {
            let until = valid_until(&made(not_after, names)).map(Timestamp::to_rfc3339_seconds);
            assert_eq!(until.as_deref(), expected, "{not_after:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_date() {
        let certificate = made((2030, 1, 1), 1);
        for length in 0..certificate.len() {
            assert_eq!(valid_until(&certificate[..length]), None, "the first {length} bytes");
        }
        for at in 0..certificate.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut other = certificate.clone();
                other[at] = byte;
                // Whatever it says, it says it without a panic.
                valid_until(&other);
            }
        }
        for wrong in ["", "Z", "3001010000Z", "30010100000ZZ", "300101000000", "301301000000Z", "3001010000é0Z"] {
            assert_eq!(time(UTC_TIME, wrong), None, "{wrong}");
        }
    }
}
