//! Tokens: fetched once, held, fetched anew, and never told.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::secret::Secret;

/// A token endpoint that gives `t1`, `t2`… and a receiver that accepts one of them.
struct World {
    endpoint: Receiver,
    receiver: Receiver,
    accepted: Arc<Mutex<String>>,
}

fn token_answer(number: usize, expires_in: u32) -> String {
    let body = format!(r#"{{"access_token":"t{number}","token_type":"Bearer","expires_in":{expires_in}}}"#);
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn world(expires_in: u32) -> World {
    let given = Arc::new(AtomicUsize::new(0));
    let endpoint =
        Receiver::answering(move |_| token_answer(given.fetch_add(1, Ordering::SeqCst) + 1, expires_in)).await;
    let accepted = Arc::new(Mutex::new("Bearer t1".to_owned()));
    let wanted = accepted.clone();
    let receiver = Receiver::answering(move |request| {
        let accepts = header(request, "authorization") == Some(wanted.lock().unwrap().as_str());
        let status = if accepts { "200 OK" } else { "401 Unauthorized" };
        format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")
    })
    .await;
    World { endpoint, receiver, accepted }
}

impl World {
    fn sending(&self) -> Sending {
        let mut sending = Sending::to(&self.receiver.url());
        sending.authentication = authentication(&self.endpoint.url());
        sending
    }
}

fn authentication(token_url: &str) -> Authentication {
    Authentication::OAuth2 {
        token_url: token_url.to_owned(),
        client_id: "client".to_owned(),
        client_secret: Secret::new("s e".to_owned()),
        scope: Some("hooks:write".to_owned()),
        audience: Some("https://api".to_owned()),
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_held_for_its_lane() {
    let world = world(300).await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(status(world.sending().by(&client).await), 200);
    }
    let asked = world.endpoint.requests();
    let [request] = &asked[..] else { panic!("{asked:?}") };
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert_eq!(header(request, "authorization"), Some("Basic Y2xpZW50OnMrZQ=="), "client:s+e");
    assert_eq!(header(request, "content-type"), Some("application/x-www-form-urlencoded"));
    let form = "grant_type=client_credentials&scope=hooks%3Awrite&audience=https%3A%2F%2Fapi";
    assert!(request.ends_with(&format!("\r\n\r\n{form}")), "{request}");

    let mut other_lane = world.sending();
    other_lane.lane = Lane(2);
    *world.accepted.lock().unwrap() = "Bearer t2".to_owned();
    assert_eq!(status(other_lane.by(&client).await), 200);
    assert_eq!(world.endpoint.requests().len(), 2, "lanes do not share tokens");
}

#[tokio::test]
async fn a_token_is_fetched_anew_when_forgotten_expired_or_of_other_credentials() {
    let world = world(300).await;
    let client = client();
    assert_eq!(status(world.sending().by(&client).await), 200);
    client.forget(Lane(1));
    *world.accepted.lock().unwrap() = "Bearer t2".to_owned();
    assert_eq!(status(world.sending().by(&client).await), 200);
    let mut changed = world.sending();
    if let Authentication::OAuth2 { scope, .. } = &mut changed.authentication {
        *scope = None;
    }
    *world.accepted.lock().unwrap() = "Bearer t3".to_owned();
    assert_eq!(status(changed.by(&client).await), 200);
    assert_eq!(world.endpoint.requests().len(), 3);

    let fleeting = self::world(0).await;
    for number in 1..=2 {
        *fleeting.accepted.lock().unwrap() = format!("Bearer t{number}");
        assert_eq!(status(fleeting.sending().by(&client).await), 200);
    }
    assert_eq!(fleeting.endpoint.requests().len(), 2);
}

#[tokio::test]
async fn those_who_come_while_a_token_is_fetched_wait_for_it() {
    let world = world(300).await;
    let client = client();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let (sending, client) = (world.sending(), client.clone());
            tokio::spawn(async move { status(sending.by(&client).await) })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    assert_eq!(world.endpoint.requests().len(), 1);
    assert_eq!(world.receiver.requests().len(), 10);
}

#[tokio::test]
async fn a_held_token_that_is_refused_is_fetched_anew_within_the_attempt() {
    let world = world(300).await;
    let client = client();
    assert_eq!(status(world.sending().by(&client).await), 200);
    *world.accepted.lock().unwrap() = "Bearer t2".to_owned();
    assert_eq!(status(world.sending().by(&client).await), 200);
    assert_eq!((world.endpoint.requests().len(), world.receiver.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_new_token_that_is_refused_is_not_tried_twice_and_not_kept() {
    let world = world(300).await;
    let client = client();
    *world.accepted.lock().unwrap() = "Bearer t3".to_owned();
    assert_eq!(status(world.sending().by(&client).await), 401);
    assert_eq!((world.endpoint.requests().len(), world.receiver.requests().len()), (1, 1));
    assert_eq!(status(world.sending().by(&client).await), 401);
    assert_eq!(status(world.sending().by(&client).await), 200);
    assert_eq!((world.endpoint.requests().len(), world.receiver.requests().len()), (3, 3));
}

#[tokio::test]
async fn an_endpoint_that_fails_says_why_and_nothing_of_its_body() {
    use FailureCode::{Closed, InvalidResponse, Oauth2};
    let answers = [
        ("HTTP/1.1 400 Bad\r\ncontent-length: 6\r\n\r\nsecret", Oauth2, None, "it answered 400"),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", Oauth2, None, "it answered 410"),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 6\r\n\r\nsecret", Oauth2, Some(503), "it answered 503"),
        ("HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n", Oauth2, Some(429), "it answered 429"),
        ("HTTP/1.1 302 Found\r\nlocation: /secret\r\ncontent-length: 0\r\n\r\n", Oauth2, None, "it answered 302"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",
            Oauth2,
            None,
            "its answer is not JSON with a token and its type",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\nsecret", Oauth2, None, "its answer is too large or was cut off"),
        ("", Closed, None, "the connection closed before an answer"),
        ("secret\r\n\r\n", InvalidResponse, None, "the answer is not HTTP/1.1: invalid HTTP version"),
    ];
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    for (answer, code, status, detail) in answers {
        let endpoint = Receiver::scripted(move |mut peer| async move {
            peer.request().await;
            peer.write(answer).await;
        })
        .await;
        let mut sending = Sending::to(&receiver.url());
        sending.authentication = authentication(&endpoint.url());
        let failure = sending.by(&client()).await.expect_err(detail);
        assert_eq!((failure.code, failure.token_status), (code, status), "{detail}");
        assert_eq!(failure.detail, format!("token endpoint: {detail}"));
    }
    assert!(receiver.requests().is_empty(), "nothing is sent without a token");
}

#[tokio::test]
async fn an_answer_over_its_cap_is_not_read_on() {
    let endpoint = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\n\r\n{\"access_token\":\"").await;
        while peer.write("x".repeat(1000)).await {}
    })
    .await;
    let mut sending = Sending::to("http://127.0.0.1:1/");
    sending.authentication = authentication(&endpoint.url());
    let failure = sending.by(&client()).await.expect_err("too large");
    assert_eq!(failure.code, FailureCode::Oauth2);
}

#[tokio::test]
async fn token_calls_are_vetted_and_timed_as_deliveries_are() {
    let endpoint = Receiver::scripted(|mut peer| async move { while peer.request().await.is_some() {} }).await;
    let mut sending = Sending::to("http://127.0.0.1:1/");
    sending.authentication = authentication(&endpoint.url());
    let blocked = sending.by(&client_of(options(&["10.0.0.0/8"]))).await.expect_err("blocked");
    let detail = "token endpoint: the address may not be reached";
    assert_eq!((blocked.code, &blocked.detail[..]), (FailureCode::AddressBlocked, detail));
    assert_eq!(endpoint.connections(), 0);
    sending.timeout = Duration::from_millis(100);
    let slow = sending.by(&client()).await.expect_err("no answer");
    assert_eq!((slow.code, &slow.detail[..]), (FailureCode::Timeout, "token endpoint: no answer within timeout"));
    sending.authentication = authentication("http://127.0.0.1:1/");
    let refused = sending.by(&client()).await.expect_err("nobody listens");
    assert_eq!(refused.code, FailureCode::Connect);
    assert!(refused.detail.starts_with("token endpoint: "), "{}", refused.detail);
    sending.authentication = authentication("no URL");
    assert_eq!(code(sending.by(&client()).await), FailureCode::Oauth2);
}
