//! Request bodies: read whole, within a size and a time.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};

use crate::limits::REQUEST_BODY_TIMEOUT;

use super::{Code, Problem};

/// A request's body.
pub enum Body {
    /// Still on its way.
    Incoming(Incoming),
    /// There already: of a request that came by no connection.
    Whole(Bytes),
}

impl Body {
    /// Reads all of it, at most `bytes_max`: 413 beyond, 408 after
    /// [`REQUEST_BODY_TIMEOUT`], 400 where the connection broke.
    pub async fn read(self, bytes_max: usize) -> Result<Bytes, Problem> {
        let too_large =
            || Problem::new(Code::TooLarge).detail(format!("the body may have at most {bytes_max} bytes")).closing();
        let incoming = match self {
            Body::Whole(bytes) if bytes.len() <= bytes_max => return Ok(bytes),
            Body::Whole(_) => return Err(too_large()),
            Body::Incoming(incoming) => incoming,
        };
        if incoming.size_hint().lower() > bytes_max as u64 {
            return Err(too_large());
        }
        match tokio::time::timeout(REQUEST_BODY_TIMEOUT, Limited::new(incoming, bytes_max).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
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
