//! A broker connection with the credentials of one role, for tests of its permissions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, jetstream};
use serde_json::Value;

use crate::stack::{Nats, password};
use crate::{runtime, wait_for};

/// Maximum wait for a reply of the server, or for a permission error.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// A connection as one role, with the errors that the server has reported on it.
pub struct Session {
    /// The NATS client.
    pub client: Client,
    server_errors: Arc<Mutex<Vec<String>>>,
}

impl Session {
    /// Connects as `role`.
    pub fn open(nats: &Nats, role: &str) -> Self {
        let server_errors = Arc::new(Mutex::new(Vec::new()));
        let stored_errors = Arc::clone(&server_errors);
        let options = ConnectOptions::with_user_and_password(role.to_owned(), password(role))
            .custom_inbox_prefix(format!("_INBOX_{role}"))
            .request_timeout(Some(REPLY_TIME_MAX))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    stored_errors.lock().expect("server errors").push(error.to_string());
                }
                std::future::ready(())
            });
        let client = runtime().block_on(options.connect(nats.address())).expect("a connection");
        Self { client, server_errors }
    }

    /// Returns a JetStream context.
    pub fn jetstream(&self) -> jetstream::Context {
        // The context spawns a task, which needs a runtime.
        let _entered = runtime().enter();
        jetstream::new(self.client.clone())
    }

    /// Publishes a message, and waits until the server refuses it.
    pub fn assert_publish_refused(&self, role: &str, subject: &str) {
        let sent = self.client.publish(subject.to_owned(), "{}".into());
        runtime().block_on(sent).expect("the message is sent");
        self.wait_for_refusal(role, &format!("Publish to \"{subject}\""));
    }

    /// Subscribes, and waits until the server refuses it.
    pub fn assert_subscribe_refused(&self, role: &str, subject: &str) {
        let subscription = runtime().block_on(self.client.subscribe(subject.to_owned()));
        self.wait_for_refusal(role, &format!("Subscription to \"{subject}\""));
        drop(subscription);
    }

    /// Waits for a permissions violation of the server, for example about `Publish to "dead.x"`.
    pub fn wait_for_refusal(&self, role: &str, about: &str) {
        wait_for(&format!("{role} is refused: {about}"), REPLY_TIME_MAX, || {
            let server_errors = self.server_errors.lock().expect("server errors");
            let wanted = format!("Permissions Violation for {about}").to_lowercase();
            server_errors.iter().any(|text| text.to_lowercase().contains(&wanted)).then_some(())
        });
    }

    /// Sends a request, and asserts that the answer is not an error.
    pub fn assert_answered(&self, role: &str, subject: &str, payload: &str) {
        let payload = payload.to_owned().into();
        let answer = runtime().block_on(self.client.request(subject.to_owned(), payload));
        let server_errors = self.server_errors.lock().expect("server errors").clone();
        let answer =
            answer.unwrap_or_else(|error| panic!("{role}: {subject}: {error}: {server_errors:?}"));
        let json: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        assert!(json["error"].is_null(), "{role}: {subject}: {json}");
        let missing = matches!(answer.status.map(|status| status.as_u16()), Some(400..));
        assert!(!missing, "{role}: {subject}: {:?}", answer.status);
    }
}
