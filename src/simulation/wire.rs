//! What every request must be: signed by each secret that is valid, over what was
//! sent, with the data as it was published. Written anew from the vendors' words:
//! **nothing of `sign` or `dialect` is used**.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::model::{Format, Outgoing, Subscription};
use crate::time::Timestamp;

fn sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn header<'a>(request: &'a Outgoing, name: &str) -> &'a str {
    let found = request.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    &found.unwrap_or_else(|| panic!("the request has no {name}")).1
}

/// Which event of ours it is: the serial number in its data. None: not one of ours.
pub(super) fn serial(request: &Outgoing) -> Option<u64> {
    let body = String::from_utf8_lossy(&request.body);
    let at = body.find("\"serial\":")? + "\"serial\":".len();
    let digits: String = body[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Panics unless the request is signed as `subscription` says at `now`.
pub(super) fn check(subscription: &Subscription, request: &Outgoing, now: Timestamp) {
    let body = &request.body;
    let valid: Vec<&str> = subscription
        .secrets
        .iter()
        .filter(|it| it.valid_until.is_none_or(|until| now < until))
        .map(|it| it.secret.expose())
        .collect();
    let seconds = (now.as_millis() / 1000).to_string();
    match subscription.settings.format {
        Format::Standard | Format::Cloudevents => {
            assert_eq!(header(request, "webhook-timestamp"), seconds);
            let signed = [header(request, "webhook-id").as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
            let mut expected: Vec<String> = valid
                .iter()
                .map(|secret| STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap())
                .map(|key| format!("v1,{}", STANDARD.encode(sha256(&key, &signed))))
                .collect();
            let mut found: Vec<&str> = header(request, "webhook-signature").split(' ').collect();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "one signature by each valid secret");
        }
        Format::Peridio => {
            let at = header(request, "peridio-published-at");
            let signed = [at.as_bytes(), body].concat();
            let expected: Vec<String> =
                valid.iter().map(|secret| hex::encode_upper(sha256(&hex::decode(secret).unwrap(), &signed))).collect();
            assert_eq!(header(request, "peridio-signature"), expected.join(","));
        }
        Format::Ferriskey => {
            let signed = [seconds.as_bytes(), b".", body].concat();
            let expected = hex::encode(sha256(valid[0].as_bytes(), &signed));
            assert_eq!(header(request, "x-ferriskey-signature"), expected);
        }
        Format::Pdk => {
            let mut mac = Hmac::<Sha1>::new_from_slice(valid[0].as_bytes()).unwrap();
            mac.update(body);
            assert_eq!(header(request, "x-pdk-signature"), hex::encode(mac.finalize().into_bytes()));
        }
        Format::Blynk => assert!(valid.is_empty(), "Blynk signs nothing"),
    }
}
