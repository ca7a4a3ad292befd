//! Copies the document of a job for another job that repeats it.

use std::time::Duration;

use wordmill_common::message::JobMessage;
use wordmill_common::source::Source;
use wordmill_nats::job_record::Lookup;

use crate::App;
use crate::http::problem::{Code, Problem};
use crate::intake::upload::storage_problem;
use crate::read::find_job;

/// Longest copy of a document for a job that is done again.
const COPY_TIME_MAX: Duration = Duration::from_secs(60);

/// Gives a job that repeats an earlier one a document of its own, if it has one that is not in
/// its message. One that exists already, from an earlier request, has one. Returns the name of the
/// copy, if one was made, for [`remove_unless_owned`](crate::intake::upload::remove_unless_owned).
///
/// # Errors
/// `source_gone` if the document is no longer kept, `storage_full` and `broker_unavailable`.
pub(crate) async fn copy_document(
    app: &App,
    message: &mut JobMessage,
) -> Result<Option<String>, Problem> {
    let Some(object) = message.source.object() else {
        return Ok(None);
    };
    let key = message.key();
    if !matches!(find_job::find(app, &key).await?, Lookup::NotFound) {
        return Ok(None);
    }
    let copying = tokio::time::timeout(COPY_TIME_MAX, app.uploads.documents.copy_to(object, &key));
    let copied = match copying.await {
        Ok(copied) => copied.map_err(storage_problem)?,
        Err(_) => {
            let detail = "The document could not be copied in time. Nothing was queued: try again.";
            return Err(Problem::new(Code::BrokerUnavailable, detail));
        }
    };
    match (copied, &mut message.source) {
        (Some(content), Source::Document(document)) => {
            document.content = content;
            Ok(message.source.object().map(str::to_owned))
        }
        _ => {
            let detail = "The document of the job is no longer kept. Send it again.";
            Err(Problem::new(Code::SourceGone, detail))
        }
    }
}
