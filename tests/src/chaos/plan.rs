//! What is submitted, and what has to come of it: computed here, from nothing but seed and number.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chaos::random::Random;
use crate::site::Page;

/// How often a job is tried: more often than by default, since healthy jobs lose attempts to our
/// faults.
pub const ATTEMPTS: usize = 4;
/// How long the queue waits for a sign of life.
pub const ACK_WAIT: Duration = Duration::from_secs(4);
/// How long the sweeper leaves a record without a message alone: longer than a client that insists
/// on a named job can be kept from it by paused gateways.
pub const SWEEP_GRACE: Duration = Duration::from_secs(40);
/// One job in so many kills its workers.
const POISON_EVERY: u64 = 300;
/// The first of them.
const POISON_FIRST: u64 = 40;
/// Largest JSON body that the gateways of a run take.
pub const BODY_MAX: usize = 256 << 10;

/// What kind of job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text in the request.
    Text,
    /// A text whose histogram does not fit into the record.
    LargeText,
    /// A page.
    Page,
    /// A page whose histogram does not fit into the record.
    LargePage,
    /// A page that keeps the worker waiting, some longer than [`ACK_WAIT`].
    SlowPage,
    /// A page that is not there.
    Missing,
    /// A page whose host never answers with anything but 503.
    Busy,
    /// A page whose host answers with 503 at first.
    Recovers,
    /// A page that kills the worker that asks for it.
    Poison,
    /// A body that is larger than allowed.
    TooLarge,
    /// A slow page whose job is cancelled.
    Cancelled,
    /// A text with an `Idempotency-Key`, repeated until it is answered and once more.
    Keyed,
    /// A page with an id of the client's, repeated likewise.
    Put,
}

/// What has to come of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This result.
    Words(BTreeMap<String, u64>),
    /// This failure.
    Failure {
        /// Its code.
        code: &'static str,
        /// Whether retries had to be exhausted.
        dead_lettered: bool,
    },
    /// It is never accepted.
    Refused,
}

/// One job, or several of the same content.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// The text, of the request or of the page.
    pub text: String,
    /// Whether the page is HTML.
    pub is_html: bool,
    /// How long the page keeps the worker waiting.
    pub delay: Duration,
    /// How often the same is submitted.
    pub copies: u64,
    /// The queue it waits in.
    pub lane: &'static str,
    /// A number of its own, for ids and keys.
    pub token: u64,
}

impl Plan {
    /// Returns plan number `number` of a seed. A plan that needs a missing feature becomes an
    /// ordinary job.
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

    /// Returns a slow page that takes twice the acknowledgement wait.
    pub fn undisturbed(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number + 1000);
        Self { delay: ACK_WAIT * 2, ..Self::from_kind(Kind::SlowPage, number, &mut random) }
    }

    fn from_kind(kind: Kind, number: u64, random: &mut Random) -> Self {
        let text = match kind {
            Kind::LargeText | Kind::LargePage => large_text(random),
            Kind::TooLarge => "too large ".repeat(BODY_MAX / 9),
            _ => small_text(random),
        };
        // Short ones, too: somebody else has to be done with it while a worker is paused.
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

    /// Returns whether the job counts a page, not a text.
    pub fn is_page(&self) -> bool {
        !matches!(self.kind, Kind::Text | Kind::LargeText | Kind::TooLarge | Kind::Keyed)
    }

    /// Returns what has to come of it.
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

    /// Returns the answer to the request for the page that comes after `earlier` others.
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

/// What the gateways offer, asked of them at the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Features {
    /// `POST /v1/jobs/{id}/cancel`.
    pub cancel: bool,
    /// `Idempotency-Key`.
    pub keys: bool,
    /// `PUT /v1/jobs/{id}`.
    pub put: bool,
}

/// Counts a text of ASCII letters and spaces: no rule of words sees it differently.
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

/// Returns a text of so many different words that their histogram is larger than 32 KiB.
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
