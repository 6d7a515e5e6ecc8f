//! Request bodies: read whole, within a size and a time, and as many at the same
//! time as there is room for.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::REQUEST_BODY_TIMEOUT;

use super::{Code, Problem};

/// Seconds a caller is asked to wait for room.
const BUSY_SECONDS: u16 = 1;

/// The bytes that all bodies under way may have together. Each is counted from
/// before it is read until its [`Held`] is dropped.
pub struct BodyRoom(Arc<Semaphore>);

/// A body's share of a [`BodyRoom`].
#[derive(Debug)]
pub struct Held {
    _share: OwnedSemaphorePermit,
}

impl BodyRoom {
    /// Room for that many bytes.
    pub fn new(bytes_max: u32) -> BodyRoom {
        BodyRoom(Arc::new(Semaphore::new(bytes_max as usize)))
    }

    /// A share of that many bytes: 503 where there is no room for them now.
    fn hold(&self, bytes: u64) -> Result<Held, Problem> {
        let share = u32::try_from(bytes).ok().and_then(|bytes| self.0.clone().try_acquire_many_owned(bytes).ok());
        match share {
            Some(share) => Ok(Held { _share: share }),
            None => Err(Problem::new(Code::Busy)
                .detail("too many bytes of requests are under way")
                .retry_after(BUSY_SECONDS)
                .closing()),
        }
    }
}

/// A request's body.
pub enum Body {
    /// Still on its way.
    Incoming(Incoming),
    /// There already: of a request that came by no connection.
    Whole(Bytes),
}

impl Body {
    /// Reads all of it, at most `bytes_max`: 413 beyond, 503 without `room`, 408
    /// after [`REQUEST_BODY_TIMEOUT`], 400 where the connection broke. What is
    /// held is to be dropped once the request is answered.
    pub async fn read(self, bytes_max: usize, room: &BodyRoom) -> Result<(Bytes, Held), Problem> {
        let too_large =
            || Problem::new(Code::TooLarge).detail(format!("the body may have at most {bytes_max} bytes")).closing();
        let incoming = match self {
            Body::Whole(bytes) if bytes.len() <= bytes_max => {
                let held = room.hold(bytes.len() as u64)?;
                return Ok((bytes, held));
            }
            Body::Whole(_) => return Err(too_large()),
            Body::Incoming(incoming) => incoming,
        };
        let size = incoming.size_hint();
        if size.lower() > bytes_max as u64 {
            return Err(too_large());
        }
        let held = room.hold(size.exact().unwrap_or(bytes_max as u64))?;
        match tokio::time::timeout(REQUEST_BODY_TIMEOUT, Limited::new(incoming, bytes_max).collect()).await {
            Ok(Ok(collected)) => Ok((collected.to_bytes(), held)),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::new(Code::BadRequest).detail("the body ended before it was whole").closing()),
            Err(_) => {
                let seconds = REQUEST_BODY_TIMEOUT.as_secs();
                Err(Problem::new(Code::RequestTimeout)
                    .detail(format!("the body was not whole within {seconds} seconds"))
                    .closing())
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body::Whole(bytes)
    }
}
