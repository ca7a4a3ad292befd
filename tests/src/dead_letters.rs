//! Lists dead letters.

use serde_json::Value;

use crate::client::Client;
use crate::{LIMIT, wait_for};

/// Waits until the dead letter of a failed job is published, which follows its final record.
pub fn wait_for_letter(client: &Client, job_id: &str) -> Value {
    wait_for("the dead letter", LIMIT, || {
        let letter = client.get(&format!("/v1/dead-letters/{job_id}"));
        (letter.status == 200).then(|| letter.json())
    })
}

/// Returns the page that `query` selects.
pub fn list(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/dead-letters{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns the ids of the dead letters on a page.
pub fn ids(list: &Value) -> Vec<String> {
    let letters = list["data"].as_array().expect("letters").iter();
    letters.map(|letter| letter["id"].as_str().expect("an id").to_owned()).collect()
}
