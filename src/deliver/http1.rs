//! HTTP/1.1 as bytes (RFC 9112): how a request's head is written, how an answer's head is
//! read, and where its body ends. Values and functions; knows no socket and no clock.
//!
//! **In doubt a connection is not used again.** What an answer leaves open, such as where
//! its body ends, it leaves open about that answer alone.

use bytes::{Buf, BytesMut};
use http::StatusCode;
use http::uri::PathAndQuery;
use httparse::{Header, ParserConfig, Status};

use crate::limits::{CHUNK_FRAMING_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX, RESPONSE_HEADERS_MAX};
use crate::model::Method;

/// What cannot stand in a request: a header's name that is no token, or a value with a
/// control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unsendable;

/// The head of a request, as far as it is written.
pub(super) struct RequestHead(Vec<u8>);

impl RequestHead {
    /// Begins one with its request line. `bytes`: how much it and what follows will take,
    /// roughly.
    pub(super) fn new(method: Method, path: &PathAndQuery, bytes: usize) -> RequestHead {
        let mut head = Vec::with_capacity(bytes);
        for part in [method.as_str(), " ", path.as_str(), " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        RequestHead(head)
    }

    /// Adds a header. Its name goes out in lower case, whatever case it is in.
    pub(super) fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Unsendable> {
        let is_name = !name.is_empty() && name.bytes().all(is_of_name);
        // Not `all`: that looks at one byte after another, this at many at a time.
        let is_value = value.iter().fold(true, |all, byte| all & is_of_value(*byte));
        if !is_name || !is_value {
            return Err(Unsendable);
        }
        let begin = self.0.len();
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
        self.0[begin..begin + name.len()].make_ascii_lowercase();
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

/// A character of a header's name (RFC 9110, section 5.6.2).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// A character of a header's value (RFC 9110, section 5.5): UTF-8 goes out as it is.
fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

/// The head of an answer that ends the exchange.
#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    /// The first `Retry-After`, unread.
    pub(super) retry_after: Option<String>,
    pub(super) body: Body,
    /// Whether its connection takes another request after it.
    pub(super) is_kept: bool,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the head of the answer is over its limits")]
    TooLarge,
    #[error("the answer is not HTTP/1.1: {0}")]
    Syntax(httparse::Error),
    #[error("the answer is not HTTP/1.1: {0}")]
    Framing(&'static str),
}

/// Finds the head of an answer in what comes, piece by piece.
#[derive(Default)]
pub(super) struct HeadReader {
    /// So many bytes went before: interim answers, and empty lines.
    skipped_bytes: usize,
    /// So many bytes were searched for the end of a head.
    searched_bytes: usize,
    /// So many were parsed in vain. They are parsed again where a head has ended or twice as
    /// many are there: one that comes byte by byte must not cost its length squared.
    parsed_bytes: usize,
}

impl HeadReader {
    /// Takes the head out of `buffer`, and whatever interim answers come before it. None:
    /// there is more to come.
    pub(super) fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<AnswerHead>, Malformed> {
        loop {
            let empty_lines = buffer.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.skip(empty_lines, buffer)?;
            let unsearched = &buffer[self.searched_bytes.saturating_sub(LONGEST_END_BYTES - 1)..];
            let is_worth_it = !buffer.is_empty() && buffer.len() >= 2 * self.parsed_bytes || has_end(unsearched);
            let found = if is_worth_it { parse(buffer)? } else { None };
            let Some((head_bytes, found)) = found else {
                if self.skipped_bytes + buffer.len() >= RESPONSE_HEAD_BYTES_MAX {
                    return Err(Malformed::TooLarge);
                }
                self.searched_bytes = buffer.len();
                if is_worth_it {
                    self.parsed_bytes = buffer.len();
                }
                return Ok(None);
            };
            self.skip(head_bytes, buffer)?;
            (self.searched_bytes, self.parsed_bytes) = (0, 0);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn skip(&mut self, bytes: usize, buffer: &mut BytesMut) -> Result<(), Malformed> {
        buffer.advance(bytes);
        self.skipped_bytes += bytes;
        if self.skipped_bytes > RESPONSE_HEAD_BYTES_MAX { Err(Malformed::TooLarge) } else { Ok(()) }
    }
}

/// The longest of what [`has_end`] looks for.
const LONGEST_END_BYTES: usize = 3;

/// Whether the empty line that ends a head is in `bytes`.
fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// The head at the beginning of `bytes` and its length; inside none: an interim answer.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Option<AnswerHead>)>, Malformed> {
    let mut fields = [const { std::mem::MaybeUninit::<Header<'_>>::uninit() }; RESPONSE_HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, &mut fields);
    let head_bytes = match parsed {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
        Err(error) => return Err(Malformed::Syntax(error)),
    };
    let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Framing("its status is none"))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Some((head_bytes, None)));
    }
    let body = Body::of(status, answer.headers)?;
    let closes = answer.version != Some(1) || tokens(answer.headers, "connection").any(|token| is(token, "close"));
    let is_in_doubt = is_in_doubt(status, answer.headers) || body == Body::ToTheEnd;
    let is_kept = !closes && !is_in_doubt;
    let retry_after = values(answer.headers, "retry-after").next();
    let retry_after = retry_after.and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    Ok(Some((head_bytes, Some(AnswerHead { status, retry_after, body, is_kept }))))
}

/// Whether more than one thing may come behind the head.
fn is_in_doubt(status: StatusCode, fields: &[Header<'_>]) -> bool {
    let is_chunked = values(fields, "transfer-encoding").next().is_some();
    let mut lengths = tokens(fields, "content-length");
    match status {
        StatusCode::SWITCHING_PROTOCOLS => true,
        // It has no body, whatever it says of one; some send what they say.
        StatusCode::NO_CONTENT => is_chunked || lengths.any(|length| length != b"0"),
        // Its length may be that of what was not modified (RFC 9110, section 15.4.5).
        StatusCode::NOT_MODIFIED => is_chunked,
        // RFC 9112, section 6.1: who says both may mean either.
        _ => is_chunked && lengths.next().is_some(),
    }
}

/// The values of the headers called `name`.
fn values<'a>(fields: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// What the headers called `name` list, separated by commas.
fn tokens<'a>(fields: &'a [Header<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    values(fields, name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn is(token: &[u8], text: &str) -> bool {
    token.eq_ignore_ascii_case(text.as_bytes())
}

/// What of an answer's body is still to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Sized(u64),
    /// In chunks.
    Chunked(Chunked),
    /// Whatever comes until the connection ends.
    ToTheEnd,
}

/// Where in a body in chunks we are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    at: At,
    /// What was neither data nor will be.
    framing_bytes: usize,
    /// So many bytes were searched for the end of a line.
    searched_bytes: usize,
}

impl Chunked {
    const BEGUN: Chunked = Chunked { at: At::Size, framing_bytes: 0, searched_bytes: 0 };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the line with a chunk's size.
    Size,
    /// Within a chunk of which so much is missing.
    Data(u64),
    /// Before the line's end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    /// Behind everything.
    End,
}

/// The body breaks the rules; where it ends is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadBody;

impl Body {
    /// How long the body of an answer to anything but HEAD and CONNECT is (RFC 9112,
    /// section 6.3).
    fn of(status: StatusCode, fields: &[Header<'_>]) -> Result<Body, Malformed> {
        if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Body::Sized(0));
        }
        if let Some(last) = tokens(fields, "transfer-encoding").last() {
            return Ok(if is(last, "chunked") { Body::Chunked(Chunked::BEGUN) } else { Body::ToTheEnd });
        }
        let mut length = None;
        for token in tokens(fields, "content-length") {
            // Not by `parse` alone, which takes a sign.
            let digits = std::str::from_utf8(token).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let said = digits.and_then(|digits| digits.parse::<u64>().ok());
            if said.is_none() || length.is_some() && length != said {
                return Err(Malformed::Framing("its content-length is not one length"));
            }
            length = said;
        }
        Ok(length.map_or(Body::ToTheEnd, Body::Sized))
    }

    /// Takes out of `buffer` what belongs to the body, and hands its data to `keep`.
    /// Answers whether that was the end of it.
    pub(super) fn take(&mut self, buffer: &mut BytesMut, mut keep: impl FnMut(&[u8])) -> Result<bool, BadBody> {
        match self {
            Body::Sized(left) => {
                take_data(left, buffer, keep);
                Ok(*left == 0)
            }
            Body::Chunked(chunked) => chunked.take(buffer, keep),
            Body::ToTheEnd => {
                keep(buffer);
                buffer.clear();
                Ok(false)
            }
        }
    }
}

/// Hands what is there of the `left` bytes to `keep`.
fn take_data(left: &mut u64, buffer: &mut BytesMut, mut keep: impl FnMut(&[u8])) {
    let there = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    keep(&buffer[..there]);
    buffer.advance(there);
    *left -= there as u64;
}

/// The size that a chunk's first line says (RFC 9112, section 7.1), whatever extensions
/// follow it.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"\r\n").filter(|line| !line.contains(&b'\r'))?;
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
    // Not by `from_str_radix` alone, which takes a sign.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}

impl Chunked {
    fn take(&mut self, buffer: &mut BytesMut, mut keep: impl FnMut(&[u8])) -> Result<bool, BadBody> {
        loop {
            match self.at {
                At::Size => match self.line_bytes(buffer) {
                    Some(line_bytes) => {
                        let size = chunk_size(&buffer[..line_bytes]).ok_or(BadBody)?;
                        self.skip(line_bytes, buffer)?;
                        self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                    }
                    None => return self.wait(buffer),
                },
                At::Data(mut left) => {
                    take_data(&mut left, buffer, &mut keep);
                    self.at = if left > 0 { At::Data(left) } else { At::DataEnd };
                    if left > 0 {
                        return Ok(false);
                    }
                }
                At::DataEnd => match buffer.get(..2) {
                    Some(b"\r\n") => {
                        self.skip(2, buffer)?;
                        self.at = At::Size;
                    }
                    Some(_) => return Err(BadBody),
                    None => return Ok(false),
                },
                At::Trailers => match self.line_bytes(buffer) {
                    Some(line_bytes) => {
                        self.at = if &buffer[..line_bytes] == b"\r\n" { At::End } else { At::Trailers };
                        self.skip(line_bytes, buffer)?;
                    }
                    None => return self.wait(buffer),
                },
                At::End => return Ok(true),
            }
        }
    }

    /// The length of the line at the beginning of `buffer`, if it is there to its end.
    fn line_bytes(&self, buffer: &[u8]) -> Option<usize> {
        let end = buffer[self.searched_bytes..].iter().position(|byte| *byte == b'\n')?;
        Some(self.searched_bytes + end + 1)
    }

    /// A line that is not there to its end yet.
    fn wait(&mut self, buffer: &BytesMut) -> Result<bool, BadBody> {
        self.searched_bytes = buffer.len();
        if self.framing_bytes + buffer.len() > CHUNK_FRAMING_BYTES_MAX { Err(BadBody) } else { Ok(false) }
    }

    fn skip(&mut self, bytes: usize, buffer: &mut BytesMut) -> Result<(), BadBody> {
        buffer.advance(bytes);
        self.searched_bytes = 0;
        self.framing_bytes += bytes;
        if self.framing_bytes > CHUNK_FRAMING_BYTES_MAX { Err(BadBody) } else { Ok(()) }
    }
}

/// For the fuzz targets: status and body of the answer that these pieces are, whether the body
/// came to its end, and whether its connection is kept; none: they are no answer, or not all of
/// one's head.
#[cfg(any(test, fuzzing))]
pub(super) fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(u16, Vec<u8>, bool, bool)> {
    let (mut reader, mut buffer) = (HeadReader::default(), BytesMut::new());
    let (mut head, mut data) = (None, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if head.is_none() {
            head = reader.read(&mut buffer).ok()?;
        }
        let Some(AnswerHead { status, body, is_kept, .. }) = &mut head else { continue };
        match body.take(&mut buffer, |bytes| data.extend_from_slice(bytes)) {
            Ok(false) => {}
            ended => return Some((status.as_u16(), data, ended.is_ok(), *is_kept)),
        }
    }
    head.map(|head| (head.status.as_u16(), data, head.body == Body::ToTheEnd, head.is_kept))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn what_the_http_library_takes_for_a_header_can_be_sent_and_nothing_else() {
        let can_be_sent = |name: &str, value: &[u8]| {
            RequestHead::new(Method::Get, &PathAndQuery::from_static("/"), 0).add(name, value).is_ok()
        };
        for byte in 0..=u8::MAX {
            let value = [b'a', byte, b'b'];
            assert_eq!(can_be_sent("x", &value), HeaderValue::from_bytes(&value).is_ok(), "{byte} in a value");
            let name = format!("a{}b", char::from(byte));
            assert_eq!(can_be_sent(&name, b""), HeaderName::from_bytes(name.as_bytes()).is_ok(), "{byte} in a name");
        }
        assert!(!can_be_sent("", b"") && can_be_sent("x", b"Zo\xc3\xab"));
    }

    /// Byte by byte, as the slowest network would bring it.
    fn read_slowly(answer: &[u8]) -> Result<Option<AnswerHead>, Malformed> {
        let (mut reader, mut buffer) = (HeadReader::default(), BytesMut::new());
        for byte in answer {
            buffer.extend_from_slice(&[*byte]);
            if let Some(head) = reader.read(&mut buffer)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_found_at_its_last_byte() {
        for end in ["\r\n\r\n", "\n\n", "\n\r\n"] {
            for padding in 0..40 {
                let padding = "y".repeat(padding);
                let head = format!("HTTP/1.1 100 Wait{end}HTTP/1.1 429 Slow\r\nRetry-After: 5\r\nx: {padding}{end}");
                let (last, before) = head.as_bytes().split_last().unwrap();
                assert!(read_slowly(before).unwrap().is_none(), "{head}");
                let found = read_slowly(&[before, &[*last]].concat()).unwrap().unwrap();
                assert_eq!((found.status.as_u16(), found.retry_after.as_deref()), (429, Some("5")), "{head}");
            }
        }
    }

    #[test]
    fn a_connection_is_kept_where_its_answer_leaves_nothing_open() {
        let chunked = || Body::Chunked(Chunked::BEGUN);
        for (head, body, is_kept) in [
            ("1.1 200 OK\r\ncontent-length: 5", Body::Sized(5), true),
            ("1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5, 5", Body::Sized(5), true),
            ("1.1 200 OK\r\ntransfer-encoding: gzip\r\nTransfer-Encoding: Chunked", chunked(), true),
            ("1.1 204 No\r\ncontent-length: 0", Body::Sized(0), true),
            ("1.1 204 No\r\ncontent-length: 5", Body::Sized(0), false),
            ("1.1 204 No\r\ntransfer-encoding: chunked", Body::Sized(0), false),
            ("1.1 304 Not Modified\r\ncontent-length: 5", Body::Sized(0), true),
            ("1.1 304 Not Modified\r\ntransfer-encoding: chunked", Body::Sized(0), false),
            ("1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0", Body::Sized(0), false),
            ("1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked", chunked(), false),
            ("1.1 200 OK\r\ntransfer-encoding: chunked, gzip", Body::ToTheEnd, false),
            ("1.1 200 OK", Body::ToTheEnd, false),
            ("1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5", Body::Sized(5), false),
            ("1.1 101 Switching\r\nupgrade: x", Body::Sized(0), false),
        ] {
            let found = read_slowly(format!("HTTP/{head}\r\n\r\n").as_bytes()).unwrap().expect(head);
            assert_eq!((found.body, found.is_kept), (body, is_kept), "{head}");
        }
        for length in ["+5", "-5", "5 5", "5,6", "", "0x5", "99999999999999999999"] {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            assert!(matches!(read_slowly(answer.as_bytes()), Err(Malformed::Framing(_))), "{length}");
        }
    }

    #[test]
    fn heads_have_limits() {
        let head = |headers: &str| read_slowly(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes());
        assert!(head(&"x: y\r\n".repeat(RESPONSE_HEADERS_MAX)).is_ok());
        assert_eq!(head(&"x: y\r\n".repeat(RESPONSE_HEADERS_MAX + 1)).unwrap_err(), Malformed::TooLarge);
        let long = |bytes: usize| format!("x: {}\r\n", "y".repeat(bytes - "HTTP/1.1 200 OK\r\nx: \r\n\r\n".len()));
        assert!(head(&long(RESPONSE_HEAD_BYTES_MAX)).is_ok());
        assert_eq!(head(&long(RESPONSE_HEAD_BYTES_MAX + 1)).unwrap_err(), Malformed::TooLarge);
    }

    /// A body of a kilobyte may not bring a gigabyte with it.
    #[test]
    fn what_is_around_chunks_has_a_limit() {
        let read = |parts: &[&[u8]]| {
            let mut body = Body::Chunked(Chunked::BEGUN);
            let mut buffer = BytesMut::new();
            let mut data_bytes = 0;
            for part in parts {
                buffer.extend_from_slice(part);
                body.take(&mut buffer, |data| data_bytes += data.len())?;
            }
            Ok(data_bytes)
        };
        let max = CHUNK_FRAMING_BYTES_MAX;
        assert_eq!(read(&vec![&b"1\r\na\r\n"[..]; max / 5]), Ok(max / 5));
        assert_eq!(read(&vec![&b"1\r\na\r\n"[..]; max / 5 + 1]), Err(BadBody), "many chunks");
        assert_eq!(read(&[b"1;", &vec![b'x'; max - 1]]), Err(BadBody), "an endless extension");
        assert_eq!(read(&[b"0\r\n", &b"x: y\r\n".repeat(max / 6 + 1)]), Err(BadBody), "endless trailers");
        assert_eq!(read(&[b"0\r\nx: ", &vec![b'y'; max - 5]]), Err(BadBody), "an endless trailer");
    }
}
