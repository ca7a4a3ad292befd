//! Operations on dead letters.

use serde_json::json;

use super::{Operation, Schemas};
use crate::api::dead_letters::replay::{ReplayResponse, Request};
use crate::api::dead_letters::{DeadLetterQuery, DeadLetterView};
use crate::http::cursor::ListPage;
use crate::http::problem::Code;

const TAG: &str = "dead letters";
const FIND_LETTER_CODES: [Code; 2] = [Code::BrokerUnavailable, Code::DeadLetterNotFound];
const ID_DESCRIPTION: &str = "Id of the dead letter: the id of its job or, if the message could \
    not be read, `unreadable-<n>`.";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let id = json!({"type": "string", "minLength": 1});
    let path = "/v1/dead-letters/{id}";
    vec![
        Operation::new(TAG, ("GET", "/v1/dead-letters"), "listDeadLetters", "List dead letters")
            .description("Newest first.")
            .query_parameters(schemas.query_parameters::<DeadLetterQuery>())
            .json(200, "One page of dead letters.", schemas.response::<ListPage<DeadLetterView>>())
            .link(200, "getDeadLetter", "$response.body#/data/0/id")
            .link(200, "deleteDeadLetter", "$response.body#/data/0/id")
            .codes(&[Code::BrokerUnavailable, Code::InvalidQuery]),
        Operation::new(TAG, ("GET", path), "getDeadLetter", "Get a dead letter")
            .path_parameter("id", ID_DESCRIPTION, &id)
            .json(200, "The dead letter.", schemas.response::<DeadLetterView>())
            .codes(&FIND_LETTER_CODES),
        Operation::new(TAG, ("DELETE", path), "deleteDeadLetter", "Delete a dead letter")
            .path_parameter("id", ID_DESCRIPTION, &id)
            .response(204, "The dead letter is deleted.")
            .codes(&FIND_LETTER_CODES),
        Operation::new(
            TAG,
            ("POST", "/v1/dead-letters/replay"),
            "replayDeadLetters",
            "Replay dead letters",
        )
        .description(
            "Submits the job of each dead letter again, as a new job with `retry_of`. A repeated \
             request does not create another job.",
        )
        .body(
            "Selects the dead letters by their ids or by a filter.",
            &[("application/json", json!({"schema": schemas.request::<Request>("Replay")}))],
        )
        .json(200, "The outcome for each dead letter.", schemas.response::<ReplayResponse>())
        .codes(&[Code::BrokerUnavailable, Code::InputTooLarge, Code::InvalidJson])
        .codes(&[Code::InvalidRequest, Code::Overloaded, Code::RequestTimeout])
        .codes(&[Code::UnsupportedMediaType]),
    ]
}
