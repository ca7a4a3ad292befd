//! Reads dead letters from the API.

use serde_json::Value;

use crate::client::Client;
use crate::{LIMIT, wait_for};

/// Waits for the dead letter of a failed job. It is published after the final record.
pub fn wait_for_dead_letter(client: &Client, job_id: &str) -> Value {
    wait_for("the dead letter is published", LIMIT, || {
        let letter = client.get(&format!("/v1/dead-letters/{job_id}"));
        (letter.status == 200).then(|| letter.json())
    })
}

/// Returns a page of the list. `query` is empty or a query string, for example `?limit=100`.
pub fn list(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/dead-letters{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns the ids of the dead letters on a page.
pub fn ids(list: &Value) -> Vec<String> {
    let letters = list["data"].as_array().expect("dead letters").iter();
    letters.map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}
