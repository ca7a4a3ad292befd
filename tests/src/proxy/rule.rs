//! Rules of the proxy: they count, drop, hold or answer messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::proxy::Direction;
use crate::proxy::frame::Frame;

/// Whether the proxy forwards a request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// Forwards the request, and drops the answer of the server.
    Yes,
    /// Drops the request.
    No,
}

/// An action for messages whose subject or reply subject has a given prefix.
#[derive(Debug, Clone)]
pub struct Rule {
    subject: String,
    contained_text: String,
    times: usize,
    direction: Option<Direction>,
    action: Action,
    handle: RuleHandle,
}

#[derive(Debug, Clone)]
enum Action {
    Pass,
    Discard,
    DiscardAnswer,
    Hold,
    HoldAnswer,
    Answer { answer: Reply, forward: Forward },
}

/// The proxy's answer to a request.
#[derive(Debug, Clone)]
struct Reply {
    headers: &'static str,
    payload: String,
}

impl Reply {
    /// Serializes the answer for a reply subject and a subscription id.
    fn to(&self, reply: &str, subscription: &str) -> Vec<u8> {
        let headers = self.headers;
        let payload = &self.payload;
        let head = headers.len();
        let size = headers.len() + payload.len();
        let line = match head {
            0 => format!("MSG {reply} {subscription} {size}"),
            _ => format!("HMSG {reply} {subscription} {head} {size}"),
        };
        format!("{line}\r\n{headers}{payload}\r\n").into_bytes()
    }
}

/// Counts the matches of a rule, and can end the rule. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct RuleHandle(Arc<(AtomicUsize, AtomicBool)>);

impl RuleHandle {
    /// Returns the number of matched messages so far.
    pub fn count(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Ends the rule. Messages that it holds stay held.
    pub fn end(&self) {
        self.0.1.store(true, Ordering::SeqCst);
    }
}

impl Rule {
    fn new(subject: &str, action: Action) -> Self {
        let subject = subject.to_owned();
        let contained_text = String::new();
        Self {
            subject,
            contained_text,
            times: usize::MAX,
            direction: None,
            action,
            handle: RuleHandle::default(),
        }
    }

    /// Counts messages and forwards them.
    pub fn pass(subject: &str) -> Self {
        Self::new(subject, Action::Pass)
    }

    /// Drops messages whose subject or reply subject begins with `subject`.
    pub fn discard(subject: &str) -> Self {
        Self::new(subject, Action::Discard)
    }

    /// Forwards requests and drops their answers.
    pub fn discard_answers(subject: &str) -> Self {
        Self::new(subject, Action::DiscardAnswer)
    }

    /// Holds messages until [`super::Proxy::release`].
    pub fn hold(subject: &str) -> Self {
        Self::new(subject, Action::Hold)
    }

    /// Forwards requests and holds their answers until [`super::Proxy::release`].
    pub fn hold_answers(subject: &str) -> Self {
        Self::new(subject, Action::HoldAnswer)
    }

    /// Answers requests with `text` in place of the server.
    pub fn answer(subject: &str, text: &str, forward: Forward) -> Self {
        let answer = Reply { headers: "", payload: text.to_owned() };
        Self::new(subject, Action::Answer { answer, forward })
    }

    /// Answers requests for a message with *not found*, as a lagging replica does.
    pub fn not_found(subject: &str) -> Self {
        let headers = "NATS/1.0 404 Message Not Found\r\n\r\n";
        let answer = Reply { headers, payload: String::new() };
        Self::new(subject, Action::Answer { answer, forward: Forward::No })
    }

    /// Restricts the rule to one direction.
    #[must_use]
    pub fn in_direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Restricts the rule to messages that contain a text.
    #[must_use]
    pub fn containing(mut self, text: &str) -> Self {
        text.clone_into(&mut self.contained_text);
        self
    }

    /// Restricts the rule to the first `times` matching messages.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, frame: &Frame, direction: Direction) -> bool {
        let subject = |word: &String| word.starts_with(&self.subject);
        let has_ended = self.times == 0 || self.handle.0.1.load(Ordering::SeqCst);
        let matches_direction = self.direction.is_none_or(|expected| expected == direction);
        matches_direction
            && !has_ended
            && frame.words.iter().skip(1).any(subject)
            && frame.contains(&self.contained_text)
    }
}

/// Action for one message.
pub(crate) enum Decision {
    Pass,
    Discard,
    Hold,
    Answer { answer: Vec<u8>, forward: Forward },
}

/// All rules, and their state across messages.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Reply subjects whose answer must be held (true) or dropped (false).
    answers: HashMap<String, bool>,
    /// Subscriptions: the subject without its trailing wildcard, and the id.
    subscriptions: Vec<(String, String)>,
}

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) -> RuleHandle {
        let handle = rule.handle.clone();
        self.rules.push(rule);
        handle
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.answers.clear();
    }

    /// Returns the action of the first rule that matches a message.
    pub(crate) fn decide(&mut self, frame: &Frame, direction: Direction) -> Decision {
        if frame.word(0) == "SUB" {
            let pattern = frame.word(1).trim_end_matches(['*', '>']).to_owned();
            self.subscriptions.push((pattern, frame.words.last().cloned().unwrap_or_default()));
        }
        // The answer to an earlier request for which a rule has decided.
        if matches!(frame.word(0), "MSG" | "HMSG")
            && let Some(is_held) = self.answers.remove(frame.word(1))
        {
            return if is_held { Decision::Hold } else { Decision::Discard };
        }
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.matches(frame, direction)) else {
            return Decision::Pass;
        };
        rule.times -= 1;
        rule.handle.0.0.fetch_add(1, Ordering::SeqCst);
        let reply = frame.reply();
        match &rule.action {
            Action::Pass => Decision::Pass,
            Action::Discard => Decision::Discard,
            Action::Hold => Decision::Hold,
            Action::DiscardAnswer | Action::HoldAnswer => {
                let is_held = matches!(rule.action, Action::HoldAnswer);
                self.answers.extend(reply.map(|reply| (reply.to_owned(), is_held)));
                Decision::Pass
            }
            Action::Answer { answer, forward } => {
                let reply = reply.expect("a request has a reply subject");
                // The newest match is used, because subscriptions of closed connections stay in the
                // list.
                let known = |(pattern, _): &&(String, String)| reply.starts_with(pattern);
                let newest = self.subscriptions.iter().rev().find(known);
                let (_, number) = newest.expect("a subscription for the answer");
                let answer = answer.to(reply, number);
                if *forward == Forward::Yes {
                    self.answers.insert(reply.to_owned(), false);
                }
                Decision::Answer { answer, forward: *forward }
            }
        }
    }
}
