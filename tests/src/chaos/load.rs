//! Clients that submit planned jobs and record the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::chaos::fleet::Directory;
use crate::chaos::plan::{Features, Kind, Plan};
use crate::chaos::random::Random;
use crate::client::{Answer, Client};
use crate::pause;

/// How often a keyed submission is repeated until it is decided.
const REPEATS_MAX: usize = 60;
/// First number of those jobs that are submitted after all faults.
pub const UNDISTURBED_FROM: u64 = 1 << 40;

/// What a client knows of one submission, named `<plan>.<copy>`.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What was to be done.
    pub plan: Arc<Plan>,
    /// When it was first sent.
    pub sent: SystemTime,
    /// What was answered, in order.
    pub answers: Vec<String>,
    /// The ids that answers named; more than one is a defect.
    pub ids: BTreeSet<String>,
    /// What it came to.
    pub verdict: Verdict,
    /// What was answered to a request to cancel.
    pub cancel: Cancel,
    /// What polls saw.
    pub polls: Polls,
}

/// What a submission came to, as the client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No answer: the outcome is unknown.
    Unanswered,
    /// `503` with an id: the outcome is unknown.
    Ambiguous,
    /// Certainly not accepted, for want of a broker or of room.
    Declined,
    /// Certainly not accepted, and never will be.
    Refused,
    /// Accepted.
    Accepted,
}

impl Verdict {
    /// Returns what is known after another request for the same job.
    fn combine(self, later: Self) -> Self {
        match (self, later) {
            // That this request was declined says nothing about the one before.
            (Self::Unanswered | Self::Ambiguous, Self::Declined) => self,
            (Self::Declined, later) => later,
            // Accepted once is accepted.
            (earlier, later) => earlier.max(later),
        }
    }
}

/// What was answered to a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// No request was sent.
    NotRequested,
    /// A request was sent, and may have taken effect.
    Requested,
    /// The cancellation was confirmed.
    Confirmed,
}

/// What polls saw.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// How many were answered.
    pub answered: u64,
    /// The first final state seen: status and words.
    pub ended: Option<String>,
    /// When that was answered.
    ended_at: Option<Instant>,
    /// What must not be seen.
    pub wrong: Vec<String>,
}

/// All submissions by name. Clones share it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Submission>>>);

impl Ledger {
    /// Returns all.
    pub fn all(&self) -> BTreeMap<String, Submission> {
        self.0.lock().expect("ledger").clone()
    }

    /// Returns the plan of one.
    pub fn plan(&self, name: &str) -> Option<Arc<Plan>> {
        self.0.lock().expect("ledger").get(name).map(|submission| Arc::clone(&submission.plan))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Submission)) {
        change(self.0.lock().expect("ledger").get_mut(name).expect("a submission"));
    }
}

/// What all clients share.
#[derive(Clone)]
pub struct Load {
    /// The seed of the plans.
    pub seed: u64,
    /// The features that plans may use.
    pub features: Features,
    /// Who is there.
    pub directory: Directory,
    /// Where pages are.
    pub site: String,
    /// What was submitted.
    pub ledger: Ledger,
    /// The next plan.
    pub next: Arc<AtomicU64>,
    /// Set when it is enough.
    pub stop: Arc<AtomicBool>,
}

impl Load {
    /// Submits jobs until `stop` is set.
    pub fn submit(&self, client: u64) {
        let mut random = Random::new(self.seed, 10 + client);
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let plan = Arc::new(Plan::generate(self.seed, number, self.features));
            self.submit_plan(&plan, &mut random);
            pause(random.between_ms(50, 350));
        }
    }

    /// Submits pages that take longer than the acknowledgement wait, while nothing is disturbed.
    pub fn submit_undisturbed(&self, count: u64) {
        let mut random = Random::new(self.seed, 9);
        for number in UNDISTURBED_FROM..UNDISTURBED_FROM + count {
            self.submit_plan(&Arc::new(Plan::undisturbed(self.seed, number)), &mut random);
        }
    }

    /// Polls accepted jobs until `stop` is set.
    pub fn poll(&self, client: u64) {
        let mut random = Random::new(self.seed, 20 + client);
        while !self.stop.load(Ordering::SeqCst) {
            pause(Duration::from_millis(30));
            let accepted: Vec<(String, String)> = {
                let ledger = self.ledger.0.lock().expect("ledger");
                let accepted = ledger.iter().filter(|(_, one)| one.verdict == Verdict::Accepted);
                accepted
                    .filter_map(|(n, one)| Some((n.clone(), one.ids.first()?.clone())))
                    .collect()
            };
            if accepted.is_empty() {
                continue;
            }
            // Mostly recent ones; old ones must not change either.
            let back = if random.below(3) == 0 { accepted.len() } else { accepted.len().min(40) };
            let (name, id) = &accepted[accepted.len() - 1 - random.index(back)];
            let sent_at = Instant::now();
            let result =
                self.send_to_any_gateway(&mut random, "GET", &format!("/v1/jobs/{id}"), &[], &[]);
            if let Ok(answer) = result {
                self.ledger
                    .change(name, |submission| submission.polls.record_answer(&answer, sent_at));
            }
        }
    }

    fn submit_plan(&self, plan: &Arc<Plan>, random: &mut Random) {
        for copy in 0..plan.copies {
            let name = format!("{}.{copy}", plan.number);
            let submission = Submission {
                plan: Arc::clone(plan),
                sent: SystemTime::now(),
                answers: Vec::new(),
                ids: BTreeSet::new(),
                verdict: Verdict::Unanswered,
                cancel: Cancel::NotRequested,
                polls: Polls::default(),
            };
            self.ledger.0.lock().expect("ledger").insert(name.clone(), submission);
            match plan.kind {
                Kind::Keyed | Kind::Put => self.submit_until_decided(plan, &name, random),
                _ => drop(self.submit_once(plan, &name, random)),
            }
            if plan.kind == Kind::Cancelled {
                pause(random.between_ms(0, 1500));
                self.cancel(&name, random);
            }
        }
    }

    /// Submits with a key or an id until it is decided, and then once more.
    fn submit_until_decided(&self, plan: &Plan, name: &str, random: &mut Random) {
        for _ in 0..REPEATS_MAX {
            if self.submit_once(plan, name, random) >= Verdict::Refused {
                self.submit_once(plan, name, random);
                return;
            }
            pause(random.between_ms(100, 500));
        }
    }

    fn submit_once(&self, plan: &Plan, name: &str, random: &mut Random) -> Verdict {
        let mut body = json!({"labels": {"chaos": name}, "lane": plan.lane});
        match plan.is_page() {
            true => body["url"] = json!(format!("{}/{name}", self.site)),
            false => body["text"] = json!(plan.text),
        }
        let body = body.to_string();
        let key = format!("chaos-{:016x}", plan.token);
        let mut headers = vec![("content-type", "application/json")];
        let mut method = "POST";
        let mut path = "/v1/jobs".to_owned();
        match plan.kind {
            Kind::Keyed => headers.push(("idempotency-key", &key)),
            Kind::Put => (method, path) = ("PUT", format!("/v1/jobs/{}", uuid(plan.token))),
            _ => {}
        }
        let result = self.send_to_any_gateway(random, method, &path, &headers, body.as_bytes());
        let (verdict, id, answer) = classify(&result);
        self.ledger.change(name, |submission| {
            let is_repeat = !submission.answers.is_empty();
            let earlier = is_repeat.then_some(submission.verdict);
            submission.verdict = earlier.map_or(verdict, |earlier| earlier.combine(verdict));
            submission.ids.extend(id);
            submission.answers.push(answer);
        });
        verdict
    }

    fn cancel(&self, name: &str, random: &mut Random) {
        let Some(id) = self.ledger.all()[name].ids.first().cloned() else {
            return;
        };
        let result =
            self.send_to_any_gateway(random, "POST", &format!("/v1/jobs/{id}/cancel"), &[], &[]);
        let confirmed = result.as_ref().is_ok_and(|answer| {
            (200..300).contains(&answer.status) && answer.json()["status"] == "cancelled"
        });
        self.ledger.change(name, |submission| {
            submission.cancel = if confirmed { Cancel::Confirmed } else { Cancel::Requested };
            submission.answers.push(format!("cancel: {}", classify(&result).2));
        });
    }

    fn send_to_any_gateway(
        &self,
        random: &mut Random,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let gateways = self.directory.gateways();
        gateways[random.index(gateways.len())].try_send(method, path, headers, body)
    }
}

impl Polls {
    fn record_answer(&mut self, answer: &Answer, sent_at: Instant) {
        self.answered += 1;
        match answer.status {
            200 => {
                let job = answer.json();
                let state = format!("{} {}", job["status"], job["totals"]["words"]);
                let is_final = !matches!(job["status"].as_str(), Some("queued" | "running"));
                match &self.ended {
                    // Another poll may have seen the end while this one waited for a gateway that
                    // was paused with an earlier state in its hands: only what was asked for after
                    // that answer has to know of the end.
                    Some(ended)
                        if *ended != state && (is_final || self.ended_at < Some(sent_at)) =>
                    {
                        self.wrong.push(format!("was {ended}, and then {state}"));
                    }
                    None if is_final => {
                        self.ended = Some(state);
                        self.ended_at = Some(Instant::now());
                    }
                    Some(_) | None => {}
                }
            }
            503 => {}
            status => self.wrong.push(format!("an accepted job answered {status} {}", answer.text)),
        }
    }
}

/// Returns the features of a gateway.
pub fn detect_features(client: &Client) -> Features {
    let id = "0198f0c2-0000-7000-8000-000000000000";
    let exists = |method: &str, path: &str| {
        let answer = client.send(method, path, &[("content-type", "application/json")], b"{}");
        !matches!(answer.json()["code"].as_str(), Some("route_not_found" | "method_not_allowed"))
    };
    let put = exists("PUT", &format!("/v1/jobs/{id}"));
    // Both came together: a key alone cannot be told from one that is ignored.
    Features { cancel: exists("POST", &format!("/v1/jobs/{id}/cancel")), keys: put, put }
}

/// Returns what an answer means, the id in it, and its gist.
fn classify(result: &Result<Answer, String>) -> (Verdict, Option<String>, String) {
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => return (Verdict::Unanswered, None, error.clone()),
    };
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let id = body["job_id"].as_str().map(str::to_owned);
    let verdict = match (answer.status, &id) {
        (200 | 202, Some(_)) => Verdict::Accepted,
        (503, Some(_)) => Verdict::Ambiguous,
        (503, None) => Verdict::Declined,
        _ => Verdict::Refused,
    };
    (verdict, id, format!("{} {}", answer.status, body["code"]))
}

/// Returns a version 4 UUID.
fn uuid(token: u64) -> String {
    let other = token.rotate_left(23) ^ 0x5bd1_e995_5bd1_e995;
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        token >> 32,
        (token >> 16) & 0xffff,
        token & 0xfff,
        other & 0xfff,
        other >> 16
    )
}
