//! Clients that submit and poll planned jobs, and record the answers.

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

/// Maximum number of requests of a keyed submission until its outcome is known.
const REPEATS_MAX: usize = 60;
/// Number of the first plan that is submitted after all faults.
pub const AFTER_FAULTS_FROM: u64 = 1 << 40;

/// State of one submission, as the client sees it. Its name is `<plan>.<copy>`, for example `17.0`.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The plan of the job.
    pub plan: Arc<Plan>,
    /// Time of the first request.
    pub sent: SystemTime,
    /// Summaries of all answers, in order.
    pub answers: Vec<String>,
    /// Job ids in the answers. More than one is a defect.
    pub ids: BTreeSet<String>,
    /// Outcome of the submission.
    pub verdict: Verdict,
    /// Outcome of the request to cancel the job.
    pub cancel: Cancel,
    /// Results of all polls.
    pub polls: Polls,
}

/// Outcome of a submission, as the client sees it. Later variants override earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No answer. The outcome is unknown.
    Unanswered,
    /// Status 503 with a job id. The outcome is unknown.
    Ambiguous,
    /// Status 503 without a job id. The job is not accepted, but a repeated request may be.
    Unavailable,
    /// Another error. The job is not accepted, and a repeated request would be refused as well.
    Refused,
    /// Accepted.
    Accepted,
}

impl Verdict {
    /// Combines the outcomes of two requests for the same job.
    fn combine(self, later: Self) -> Self {
        match (self, later) {
            // This answer does not decide the outcome of the earlier request.
            (Self::Unanswered | Self::Ambiguous, Self::Unavailable) => self,
            (Self::Unavailable, later) => later,
            // A job that was accepted once stays accepted.
            (earlier, later) => earlier.max(later),
        }
    }
}

/// Outcome of a request to cancel a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// No request was sent.
    NotRequested,
    /// A request was sent, and may have taken effect.
    Requested,
    /// The cancellation was confirmed.
    Confirmed,
}

/// Results of all polls of a job.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// Number of answers.
    pub answered: u64,
    /// Status and number of words of the first final answer.
    pub ended: Option<String>,
    /// Time of the first final answer.
    ended_at: Option<Instant>,
    /// Descriptions of incorrect answers.
    pub wrong: Vec<String>,
}

/// All submissions by name. Clones share the list.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Submission>>>);

impl Ledger {
    /// Returns a copy of all submissions.
    pub fn all(&self) -> BTreeMap<String, Submission> {
        self.0.lock().expect("ledger").clone()
    }

    /// Returns the plan of a submission.
    pub fn plan(&self, name: &str) -> Option<Arc<Plan>> {
        self.0.lock().expect("ledger").get(name).map(|submission| Arc::clone(&submission.plan))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Submission)) {
        change(self.0.lock().expect("ledger").get_mut(name).expect("a submission"));
    }
}

/// State that all clients share.
#[derive(Clone)]
pub struct Load {
    /// The seed of the plans.
    pub seed: u64,
    /// The features that plans may use.
    pub features: Features,
    /// Current gateways and workers.
    pub directory: Directory,
    /// Base URL of the pages.
    pub site: String,
    /// All submissions.
    pub ledger: Ledger,
    /// Number of the next plan.
    pub next: Arc<AtomicU64>,
    /// Stops the clients when set.
    pub stop: Arc<AtomicBool>,
}

impl Load {
    /// Submits random jobs until `stop` is set.
    pub fn submit(&self, client: u64) {
        let mut random = Random::new(self.seed, 10 + client);
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let plan = Arc::new(Plan::generate(self.seed, number, self.features));
            self.submit_plan(&plan, &mut random);
            pause(random.between_ms(50, 350));
        }
    }

    /// Submits pages that take longer than the ack wait. Called after all faults, so each must
    /// succeed at its first attempt.
    pub fn submit_after_faults(&self, count: u64) {
        let mut random = Random::new(self.seed, 9);
        for number in AFTER_FAULTS_FROM..AFTER_FAULTS_FROM + count {
            self.submit_plan(&Arc::new(Plan::after_faults(self.seed, number)), &mut random);
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
            // Mostly polls recent jobs, which are more likely to change. Sometimes polls older
            // jobs, which must not change.
            let range = if random.below(3) == 0 { accepted.len() } else { accepted.len().min(40) };
            let (name, id) = &accepted[accepted.len() - 1 - random.index(range)];
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

    /// Repeats a submission with a key or an id until its outcome is known, and then once more.
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
            // The first answer replaces the initial verdict; only later ones are combined with it.
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
                    // A paused gateway may send an outdated status after another poll has returned
                    // the final one. So a status that is not final is an error only if the poll
                    // started after that answer.
                    Some(ended)
                        if *ended != state && (is_final || self.ended_at < Some(sent_at)) =>
                    {
                        self.wrong.push(format!("the final status {ended} changed to {state}"));
                    }
                    None if is_final => {
                        self.ended = Some(state);
                        self.ended_at = Some(Instant::now());
                    }
                    Some(_) | None => {}
                }
            }
            503 => {}
            status => self
                .wrong
                .push(format!("a poll of an accepted job returned {status} {}", answer.text)),
        }
    }
}

/// Detects the features of a gateway.
pub fn detect_features(client: &Client) -> Features {
    let id = "0198f0c2-0000-7000-8000-000000000000";
    let exists = |method: &str, path: &str| {
        let answer = client.send(method, path, &[("content-type", "application/json")], b"{}");
        !matches!(answer.json()["code"].as_str(), Some("route_not_found" | "method_not_allowed"))
    };
    let put = exists("PUT", &format!("/v1/jobs/{id}"));
    // Idempotency keys cannot be detected: an older gateway ignores the header. They were released
    // together with `PUT`.
    Features { cancel: exists("POST", &format!("/v1/jobs/{id}/cancel")), keys: put, put }
}

/// Returns the outcome, the job id and a summary of an answer.
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
        (503, None) => Verdict::Unavailable,
        _ => Verdict::Refused,
    };
    (verdict, id, format!("{} {}", answer.status, body["code"]))
}

/// Returns a version 4 UUID for `token`.
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
