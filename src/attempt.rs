//! One attempt from end to end: render, sign, send, say how it went. What the
//! engine does with deliveries, and the API with tests and verifications.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Live;
use crate::deliver::{Answer, Call, Client};
use crate::dialect::{self, RenderError};
use crate::id::{DeliveryId, Lane};
use crate::limits::DETAIL_CHARS_MAX;
use crate::model::{Attempt, AttemptOutcome, Authentication, Event, FailureCode, Settings, Subscription};
use crate::retry;
use crate::secret::{is_credential, redact};
use crate::time::{Clock, Timestamp};

/// Makes attempts.
#[derive(Clone)]
pub struct Performer {
    client: Client,
    config: Live,
    clock: Clock,
}

/// How an attempt went.
pub struct Performed {
    /// The attempt.
    pub attempt: Attempt,
    /// The pause its `Retry-After` asks for.
    pub retry_after: Option<Duration>,
}

impl Performer {
    /// Sends by `client`, as `config` says.
    pub fn new(client: Client, config: Live, clock: Clock) -> Performer {
        Performer { client, config, clock }
    }

    /// Makes one attempt. Never fails: what goes wrong is the attempt's outcome.
    pub async fn perform(
        &self,
        subscription: &Subscription,
        event: &Event,
        delivery: DeliveryId,
        number: u32,
    ) -> Performed {
        let config = self.config.current();
        let started_at = self.clock.now();
        let settings = &subscription.settings;
        let mut attempt = Attempt {
            number,
            started_at,
            duration_ms: 0,
            outcome: AttemptOutcome::Success { status: 0 },
            missing: Vec::new(),
            response_body: Bytes::new(),
        };
        // In a block of its own, so that none of it has room in what waits for the answer.
        let exchange = {
            let (secrecy, dialects) = (&config.secrecy, &config.dialects);
            let mut request = match dialect::render(subscription, event, delivery, secrecy, dialects, started_at) {
                Ok(request) => request,
                Err(error) => {
                    attempt.outcome = not_rendered(&error);
                    return Performed { attempt, retry_after: None };
                }
            };
            attempt.missing = std::mem::take(&mut request.missing);
            self.client.send(Call {
                request,
                organization: &settings.organization,
                lane: subscription.number,
                authentication: &settings.authentication,
                tls: &settings.tls,
                timeout: settings.delivery.timeout.unwrap_or(config.delivery.timeout),
                response_read_bytes_max: dialect::find(settings.format).limits().response_read_bytes_max,
            })
        }
        .await;
        attempt.duration_ms = u32::try_from(exchange.duration.as_millis()).unwrap_or(u32::MAX);
        let retry_after = match exchange.result {
            Ok(answer) => {
                attempt.outcome = judge(subscription, answer.status);
                let pause = pause_asked_for(&answer, self.clock.now());
                attempt.response_body = unrepeated(settings, answer.body);
                pause
            }
            Err(failure) => {
                attempt.outcome = AttemptOutcome::Failure {
                    code: failure.code,
                    status: failure.token_status,
                    detail: failure.detail.chars().take(DETAIL_CHARS_MAX).collect(),
                };
                None
            }
        };
        Performed { attempt, retry_after }
    }
}

impl Performer {
    /// Drops what is kept for a lane: its subscription changed or is gone.
    pub fn forget(&self, lane: Lane) {
        self.client.forget(lane);
    }

    /// Until when the receiver's certificate is valid, as it was last seen.
    pub fn certificate_expires_at(&self, settings: &Settings) -> Option<Timestamp> {
        self.client.certificates([settings.url.as_str()]).pop()
    }

    /// The same for every endpoint that enabled ones of `subscriptions` depend on: receivers
    /// whose certificate is checked, and token endpoints.
    pub fn certificates_expire_at<'a>(
        &self,
        subscriptions: impl Iterator<Item = &'a Arc<Subscription>>,
    ) -> Vec<Timestamp> {
        let settings = subscriptions.filter(|it| it.is_enabled()).map(|it| &it.settings);
        self.client.certificates(settings.flat_map(|settings| {
            let token_url = match &settings.authentication {
                Authentication::OAuth2 { token_url, .. } => Some(token_url.as_str()),
                Authentication::None | Authentication::Basic { .. } | Authentication::Bearer { .. } => None,
            };
            settings.tls.verify.then_some(settings.url.as_str()).into_iter().chain(token_url)
        }))
    }

    /// The attempt at an event that the store could not hand out.
    pub fn unread(&self, number: u32) -> Performed {
        let detail = "the event could not be read".to_owned();
        let attempt = Attempt {
            number,
            started_at: self.clock.now(),
            duration_ms: 0,
            outcome: AttemptOutcome::Failure { code: FailureCode::Internal, status: None, detail },
            missing: Vec::new(),
            response_body: Bytes::new(),
        };
        Performed { attempt, retry_after: None }
    }
}

/// What a receiver repeats of the headers that reads mask is not kept either.
fn unrepeated(settings: &Settings, body: Bytes) -> Bytes {
    let masked = settings.headers.iter().filter(|(name, value)| is_credential(name, value));
    // Behind a scheme, as in "Bearer TOKEN", stands what is secret of it.
    let masked: Vec<&str> =
        masked.flat_map(|(_, value)| [Some(value.as_str()), value.split(' ').next_back()]).flatten().collect();
    match redact(&body, &masked) {
        Cow::Borrowed(_) => body,
        Cow::Owned(redacted) => redacted.into(),
    }
}

/// Whether the format takes the status for success.
fn judge(subscription: &Subscription, status: u16) -> AttemptOutcome {
    if dialect::find(subscription.settings.format).is_success(status) {
        AttemptOutcome::Success { status }
    } else {
        let detail = format!("the receiver answered {status}");
        AttemptOutcome::Failure { code: FailureCode::Status, status: Some(status), detail }
    }
}

fn pause_asked_for(answer: &Answer, now: Timestamp) -> Option<Duration> {
    retry::parse_retry_after(answer.retry_after.as_deref()?, now)
}

fn not_rendered(error: &RenderError) -> AttemptOutcome {
    let code = match error {
        RenderError::TooLarge { .. } => FailureCode::TooLarge,
        RenderError::Envelope(_) | RenderError::Url(_) => FailureCode::Render,
    };
    AttemptOutcome::Failure { code, status: None, detail: error.to_string().chars().take(DETAIL_CHARS_MAX).collect() }
}
