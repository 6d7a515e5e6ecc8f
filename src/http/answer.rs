//! The bodies of answers: whole, or in parts as they come. **One that is broken off
//! ends its connection**, so that it cannot be taken for whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of an answer.
pub enum AnswerBody {
    /// There already.
    Whole(Full<Bytes>),
    /// To come; `None` stands after the last part. Nothing stands there: broken off.
    Parts(mpsc::Receiver<Option<Bytes>>),
}

/// An answer in parts was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was broken off")]
pub struct BrokenOff;

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            AnswerBody::Whole(body) => Pin::new(body).poll_frame(context).map_err(|infallible| match infallible {}),
            AnswerBody::Parts(parts) => parts.poll_recv(context).map(|part| match part {
                Some(Some(part)) => Some(Ok(Frame::data(part))),
                Some(None) => None,
                None => Some(Err(BrokenOff)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole(body) => body.is_end_stream(),
            AnswerBody::Parts(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(body) => body.size_hint(),
            AnswerBody::Parts(_) => SizeHint::default(),
        }
    }
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> AnswerBody {
        AnswerBody::Whole(Full::new(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    /// Parts that ended without their end were an answer like any other.
    #[tokio::test]
    async fn parts_without_their_end_are_an_error() {
        for (end, is_whole) in [(Some(None), true), (None, false)] {
            let (sender, parts) = mpsc::channel(4);
            for part in [Some(Some(Bytes::from("a"))), Some(Some(Bytes::from("b"))), end].into_iter().flatten() {
                sender.send(part).await.expect("taken");
            }
            drop(sender);
            let collected = AnswerBody::Parts(parts).collect().await.map(|body| body.to_bytes());
            assert_eq!(collected.ok(), is_whole.then(|| Bytes::from("ab")));
        }
    }
}
