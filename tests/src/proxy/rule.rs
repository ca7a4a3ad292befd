//! What happens to which messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::proxy::Way;
use crate::proxy::frame::Frame;

/// Whether a request that the proxy answers goes to the server all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrives {
    /// It does, and the server's own answer is lost.
    Yes,
    /// It does not.
    No,
}

/// What happens to messages of some subjects.
#[derive(Debug, Clone)]
pub struct Rule {
    subject: String,
    says: String,
    times: usize,
    way: Option<Way>,
    what: What,
    met: Met,
}

#[derive(Debug, Clone)]
enum What {
    Pass,
    Lose,
    LoseAnswer,
    Hold,
    HoldAnswer,
    Answer { answer: Text, arrives: Arrives },
}

/// What the proxy answers with.
#[derive(Debug, Clone)]
struct Text {
    headers: &'static str,
    payload: String,
}

impl Text {
    /// Writes the message for a reply subject and a subscription.
    fn to(&self, reply: &str, subscription: &str) -> Vec<u8> {
        let (headers, payload) = (self.headers, &self.payload);
        let (head, size) = (headers.len(), headers.len() + payload.len());
        let line = match head {
            0 => format!("MSG {reply} {subscription} {size}"),
            _ => format!("HMSG {reply} {subscription} {head} {size}"),
        };
        format!("{line}\r\n{headers}{payload}\r\n").into_bytes()
    }
}

/// How many messages a rule was applied to. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Met(Arc<(AtomicUsize, AtomicBool)>);

impl Met {
    /// Returns the number so far.
    pub fn count(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    /// Ends the rule; what it held back stays so.
    pub fn end(&self) {
        self.0.1.store(true, Ordering::SeqCst);
    }
}

impl Rule {
    fn new(subject: &str, what: What) -> Self {
        let (subject, says) = (subject.to_owned(), String::new());
        Self { subject, says, times: usize::MAX, way: None, what, met: Met::default() }
    }

    /// Only counts.
    pub fn pass(subject: &str) -> Self {
        Self::new(subject, What::Pass)
    }

    /// Loses messages with a subject, or reply subject, that begins like this.
    pub fn lose(subject: &str) -> Self {
        Self::new(subject, What::Lose)
    }

    /// Lets requests arrive, and loses their answers.
    pub fn lose_answers(subject: &str) -> Self {
        Self::new(subject, What::LoseAnswer)
    }

    /// Holds messages back until [`super::Proxy::release`].
    pub fn hold(subject: &str) -> Self {
        Self::new(subject, What::Hold)
    }

    /// Lets requests arrive, and holds their answers back.
    pub fn hold_answers(subject: &str) -> Self {
        Self::new(subject, What::HoldAnswer)
    }

    /// Answers requests with a text in place of the server.
    pub fn answer(subject: &str, text: &str, arrives: Arrives) -> Self {
        let answer = Text { headers: "", payload: text.to_owned() };
        Self::new(subject, What::Answer { answer, arrives })
    }

    /// Answers requests for a message as a replica does that does not have it yet.
    pub fn miss(subject: &str) -> Self {
        let headers = "NATS/1.0 404 Message Not Found\r\n\r\n";
        let answer = Text { headers, payload: String::new() };
        Self::new(subject, What::Answer { answer, arrives: Arrives::No })
    }

    /// Only those that go this way.
    #[must_use]
    pub fn going(mut self, way: Way) -> Self {
        self.way = Some(way);
        self
    }

    /// Only those messages that contain a text.
    #[must_use]
    pub fn saying(mut self, text: &str) -> Self {
        text.clone_into(&mut self.says);
        self
    }

    /// Only the first ones.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    fn fits(&self, frame: &Frame, way: Way) -> bool {
        let subject = |word: &String| word.starts_with(&self.subject);
        let is_over = self.times == 0 || self.met.0.1.load(Ordering::SeqCst);
        let goes = self.way.is_none_or(|wanted| wanted == way);
        goes && !is_over && frame.words.iter().skip(1).any(subject) && frame.contains(&self.says)
    }
}

/// What happens to one message.
pub(crate) enum Fate {
    Pass,
    Lose,
    Hold,
    Answer { answer: Vec<u8>, arrives: Arrives },
}

/// All rules, and what has to be remembered of the traffic.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Whether the answer that comes to a reply subject is held; it is lost otherwise.
    answers: HashMap<String, bool>,
    /// Subscriptions: what their subject begins with, and their number.
    subscriptions: Vec<(String, String)>,
}

impl Rules {
    pub(crate) fn add(&mut self, rule: Rule) -> Met {
        let met = rule.met.clone();
        self.rules.push(rule);
        met
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.answers.clear();
    }

    /// Decides what becomes of a message.
    pub(crate) fn fate(&mut self, frame: &Frame, way: Way) -> Fate {
        if frame.word(0) == "SUB" {
            let pattern = frame.word(1).trim_end_matches(['*', '>']).to_owned();
            self.subscriptions.push((pattern, frame.words.last().cloned().unwrap_or_default()));
        }
        if matches!(frame.word(0), "MSG" | "HMSG")
            && let Some(is_held) = self.answers.remove(frame.word(1))
        {
            return if is_held { Fate::Hold } else { Fate::Lose };
        }
        let Some(rule) = self.rules.iter_mut().find(|rule| rule.fits(frame, way)) else {
            return Fate::Pass;
        };
        rule.times -= 1;
        rule.met.0.0.fetch_add(1, Ordering::SeqCst);
        let reply = frame.reply();
        match &rule.what {
            What::Pass => Fate::Pass,
            What::Lose => Fate::Lose,
            What::Hold => Fate::Hold,
            What::LoseAnswer | What::HoldAnswer => {
                let is_held = matches!(rule.what, What::HoldAnswer);
                self.answers.extend(reply.map(|reply| (reply.to_owned(), is_held)));
                Fate::Pass
            }
            What::Answer { answer, arrives } => {
                let reply = reply.expect("a request wants an answer");
                let known = |(pattern, _): &&(String, String)| reply.starts_with(pattern);
                let newest = self.subscriptions.iter().rev().find(known);
                let (_, number) = newest.expect("a subscription for the answer");
                let answer = answer.to(reply, number);
                if *arrives == Arrives::Yes {
                    self.answers.insert(reply.to_owned(), false);
                }
                Fate::Answer { answer, arrives: *arrives }
            }
        }
    }
}
