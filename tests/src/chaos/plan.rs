//! Planned jobs and their expected outcome, computed only from a seed and a number.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::random::Random;
use crate::site::Page;

/// Maximum number of attempts. Higher than the default, because healthy jobs lose attempts to
/// injected faults.
pub const ATTEMPTS: usize = 4;
/// Ack wait of the consumers of the queue.
pub const ACK_WAIT: Duration = Duration::from_secs(4);
/// Time after which the sweeper ends a record without a message. It must exceed the time for which
/// paused gateways can delay a client that repeats a keyed submission.
pub const SWEEP_GRACE: Duration = Duration::from_secs(40);
/// One in this many plans is poisonous.
const POISON_EVERY: u64 = 300;
/// Number of the first poisonous plan.
const POISON_FIRST: u64 = 40;
/// Maximum size of a JSON body, as configured for the gateways.
pub const BODY_MAX: usize = 256 << 10;

/// Kind of a planned job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text in the request.
    Text,
    /// Text whose histogram is too large for the record.
    LargeText,
    /// Page with a small text.
    Page,
    /// Page whose histogram is too large for the record.
    LargePage,
    /// Page with a delay, sometimes longer than [`ACK_WAIT`].
    SlowPage,
    /// Page with status 404.
    Missing,
    /// Page with status 503 for every request.
    Busy,
    /// Page with status 503 for the first request.
    Recovers,
    /// Page that crashes the worker that requests it.
    Poison,
    /// Text in a body that exceeds [`BODY_MAX`].
    TooLarge,
    /// Slow page whose job is cancelled.
    Cancelled,
    /// Text with an `Idempotency-Key`. The request is repeated until its outcome is known, and once
    /// more.
    Keyed,
    /// Page with a job id of the client. The request is repeated as for [`Kind::Keyed`].
    Put,
}

/// Expected outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Success with this histogram.
    Words(BTreeMap<String, u64>),
    /// Failure.
    Failure {
        /// Failure code.
        code: &'static str,
        /// Whether the job must use all attempts and become a dead letter.
        dead_lettered: bool,
    },
    /// Refusal of the submission.
    Refused,
}

/// A planned job, which may be submitted several times.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Number of the plan.
    pub number: u64,
    /// Kind of the job.
    pub kind: Kind,
    /// Text of the request or of the page.
    pub text: String,
    /// Whether the page is HTML.
    pub is_html: bool,
    /// Delay of the page.
    pub delay: Duration,
    /// Number of submissions.
    pub copies: u64,
    /// Lane of the job.
    pub lane: &'static str,
    /// Random number for the job id or the idempotency key.
    pub token: u64,
}

impl Plan {
    /// Creates plan `number` of a seed. If the gateways do not have a feature that its kind needs,
    /// the plan is a text job.
    pub fn generate(seed: u64, number: u64, features: Features) -> Self {
        let mut random = Random::new(seed, number + 1000);
        let kind = match random.below(100) {
            _ if number % POISON_EVERY == POISON_FIRST => Kind::Poison,
            0..24 => Kind::Text,
            24..28 => Kind::LargeText,
            28..44 => Kind::Page,
            44..52 => Kind::LargePage,
            52..63 => Kind::SlowPage,
            63..68 => Kind::Missing,
            68..72 => Kind::Busy,
            72..78 => Kind::Recovers,
            78..80 => Kind::TooLarge,
            80..88 if features.cancel => Kind::Cancelled,
            88..94 if features.keys => Kind::Keyed,
            94..100 if features.put => Kind::Put,
            _ => Kind::Text,
        };
        Self::from_kind(kind, number, &mut random)
    }

    /// Creates a page whose delay is twice [`ACK_WAIT`].
    pub fn after_faults(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number + 1000);
        Self { delay: ACK_WAIT * 2, ..Self::from_kind(Kind::SlowPage, number, &mut random) }
    }

    fn from_kind(kind: Kind, number: u64, random: &mut Random) -> Self {
        let text = match kind {
            Kind::LargeText | Kind::LargePage => large_text(random),
            Kind::TooLarge => "too large ".repeat(BODY_MAX / 9),
            _ => small_text(random),
        };
        // Half of the delays are short, so that another worker can finish the job while one is
        // paused.
        let delay = match kind {
            Kind::SlowPage if random.below(2) == 0 => random.between_ms(200, 1500),
            Kind::SlowPage | Kind::Cancelled => random.between_ms(300, 7000),
            _ => Duration::ZERO,
        };
        let may_repeat = matches!(kind, Kind::Text | Kind::Page | Kind::LargePage);
        Self {
            number,
            kind,
            text,
            is_html: random.below(3) == 0,
            delay,
            copies: if may_repeat && random.below(6) == 0 { 2 } else { 1 },
            lane: if random.below(4) == 0 { "bulk" } else { "interactive" },
            token: random.next(),
        }
    }

    /// Returns whether the source of the job is a page.
    pub fn is_page(&self) -> bool {
        !matches!(self.kind, Kind::Text | Kind::LargeText | Kind::TooLarge | Kind::Keyed)
    }

    /// Returns the expected outcome.
    pub fn expected(&self) -> Expected {
        let failure = |code, dead_lettered| Expected::Failure { code, dead_lettered };
        match self.kind {
            Kind::Missing => failure("fetch_http_4xx", false),
            Kind::Busy => failure("fetch_http_5xx", true),
            Kind::Poison => failure("worker_crashed", true),
            Kind::TooLarge => Expected::Refused,
            _ => Expected::Words(count(&self.text)),
        }
    }

    /// Returns the response to a request for the page after `earlier` other requests.
    pub fn page(&self, earlier: usize) -> Page {
        let busy = || Page::status("503 Service Unavailable");
        match self.kind {
            Kind::Missing => Page::status("404 Not Found"),
            Kind::Busy | Kind::Poison => busy(),
            Kind::Recovers if earlier == 0 => busy(),
            _ if self.is_html => {
                let body = format!("<!doctype html><html><body><p>{}</p></body></html>", self.text);
                Page::new("text/html; charset=utf-8", body).after(self.delay)
            }
            _ => Page::new("text/plain; charset=utf-8", self.text.clone()).after(self.delay),
        }
    }
}

/// Features of the gateways, detected at the start of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Features {
    /// `POST /v1/jobs/{id}/cancel`.
    pub cancel: bool,
    /// `Idempotency-Key`.
    pub keys: bool,
    /// `PUT /v1/jobs/{id}`.
    pub put: bool,
}

/// Counts the words of a text of ASCII letters and whitespace, for which all rules agree.
pub fn count(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in text.split_ascii_whitespace() {
        *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
    }
    counts
}

fn small_text(random: &mut Random) -> String {
    const WORDS: [&str; 12] = [
        "river", "Stone", "mill", "WHEEL", "grain", "flour", "sack", "wind", "Water", "turns",
        "slowly", "home",
    ];
    let length = 1 + random.index(400);
    let mut text = String::new();
    for _ in 0..length {
        text += WORDS[random.index(WORDS.len())];
        text.push(if random.below(12) == 0 { '\n' } else { ' ' });
    }
    text
}

/// Returns a text with at least 4000 distinct words, whose histogram is larger than 32 KiB.
fn large_text(random: &mut Random) -> String {
    let length = 4000 + random.below(2000);
    let mut text = String::new();
    for number in 0..length {
        text.push('w');
        let mut rest = number;
        for _ in 0..4 {
            text.push(char::from(b'a' + u8::try_from(rest % 26).expect("a letter")));
            rest /= 26;
        }
        text.push(' ');
        if random.below(4) == 0 {
            text += "mill ";
        }
    }
    text
}
