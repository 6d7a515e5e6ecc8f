//! A tunnel through a proxy (`CONNECT`, RFC 9110, section 9.3.6). Knows one connection
//! and the address at its other end.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Failure;
use crate::limits::PROXY_HEAD_BYTES_MAX;
use crate::model::FailureCode;

/// Has the proxy at the other end of `stream` lead it on to `address`: what is written
/// and read from then on is the receiver's.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    address: SocketAddr,
) -> Result<(), Failure> {
    let failure = |detail: String| Failure::new(FailureCode::Connect, detail);
    let broken = |error: std::io::Error| failure(format!("the proxy's connection broke: {}", error.kind()));
    let request = format!("CONNECT {address} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == PROXY_HEAD_BYTES_MAX {
            return Err(failure("the head of the proxy's answer is too long".to_owned()));
        }
        // One byte after the other: what comes behind the head is the receiver's.
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(failure(format!("the proxy answered {status}"))),
        None => Err(failure("the proxy's answer is not HTTP".to_owned())),
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?.get(1..)?.strip_prefix(b" ")?;
    let (digits, behind) = rest.split_at_checked(3)?;
    let is_whole = digits.iter().all(u8::is_ascii_digit) && matches!(behind.first(), Some(b' ' | b'\r'));
    if is_whole { std::str::from_utf8(digits).ok()?.parse().ok() } else { None }
}
