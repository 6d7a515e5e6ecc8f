//! Connections are used again, by those who may, and never to send twice.

use super::*;

#[tokio::test]
async fn a_connection_is_used_again() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let client = client();
    for _ in 0..5 {
        assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    }
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 5));
}

#[tokio::test]
async fn without_keep_alive_each_request_has_its_own() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let client = client_of(Options { keep_alive: Duration::ZERO, ..options(&["127.0.0.0/8"]) });
    for _ in 0..3 {
        assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    }
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn an_answer_is_read_as_far_as_the_call_says() {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000));
    let receiver = Receiver::answering(move |_| answer.clone()).await;
    let client = client();
    for (response_read_bytes_max, connections) in [(20_000, 1), (20_000, 1), (16_384, 1), (16_384, 2), (16_384, 3)] {
        let sending = Sending { response_read_bytes_max, ..Sending::to(&receiver.url()) };
        assert_eq!(status(sending.by(&client).await), 200);
        assert_eq!(receiver.connections(), connections, "one whose answer was not read to its end is not used again");
    }
}

#[tokio::test]
async fn a_receiver_that_closes_after_each_answer_is_dialled_each_time() {
    for head in ["HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"] {
        let receiver = Receiver::scripted(move |mut peer| async move {
            peer.request().await;
            peer.write(head).await;
        })
        .await;
        let client = client();
        for _ in 0..3 {
            assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
        }
        assert_eq!((receiver.connections(), receiver.requests().len()), (3, 3), "{head}");
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_seen_is_not_sent_again() {
    let receiver = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write(OK).await;
        peer.request().await;
    })
    .await;
    let client = client();
    assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    assert_eq!(code(Sending::to(&receiver.url()).by(&client).await), FailureCode::Closed);
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
    assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200, "and the next has a new connection");
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn an_answer_to_no_question_is_not_taken_for_the_next_one() {
    let receiver = Receiver::scripted(|mut peer| async move {
        peer.request().await;
        peer.write(format!("{OK}HTTP/1.1 500 Smuggled\r\ncontent-length: 0\r\n\r\n")).await;
        peer.request().await;
    })
    .await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    }
}

#[tokio::test]
async fn a_body_over_the_cap_costs_the_connection() {
    let receiver =
        Receiver::answering(|_| format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(100_000)))
            .await;
    let client = client();
    for _ in 0..2 {
        assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    }
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_waiting_connection_is_vetted_for_whoever_uses_it() {
    let receiver = Receiver::answering(|_| OK.to_owned()).await;
    let mut options = options(&["127.0.0.0/8"]);
    options.allow_networks[0].organizations = Some(vec!["acme".into()]);
    let client = client_of(options.clone());
    assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    let mut other = Sending::to(&receiver.url());
    other.organization = "other".into();
    assert_eq!(code(other.by(&client).await), FailureCode::AddressBlocked);
    assert_eq!(status(Sending::to(&receiver.url()).by(&client).await), 200);
    options.allow_networks.clear();
    client.reconfigure(options);
    assert_eq!(code(Sending::to(&receiver.url()).by(&client).await), FailureCode::AddressBlocked, "no longer open");
    assert_eq!((receiver.connections(), receiver.requests().len()), (1, 2));
}
