//! Copies the document of a job for a new job that repeats it.

use std::time::Duration;

use wordmill_common::message::JobMessage;
use wordmill_common::source::Source;
use wordmill_nats::job_record::Lookup;

use crate::App;
use crate::http::problem::{Code, Problem};
use crate::intake::upload::storage_problem;
use crate::read::find_job;

/// Time limit for copying a document.
const COPY_TIME_MAX: Duration = Duration::from_secs(60);

/// Copies the document of an earlier job, and makes `message`, the new job, refer to the copy. Does
/// nothing if the source is not a stored document, or if the new job exists already and has its own
/// copy. Returns the name of the copy for
/// [`remove_unless_owned`](crate::intake::upload::remove_unless_owned).
///
/// # Errors
/// `source_gone` if the document is no longer stored, `storage_full` and `broker_unavailable`.
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
            let detail = "The document could not be copied in time. No job was queued. Try again.";
            return Err(Problem::new(Code::BrokerUnavailable, detail));
        }
    };
    match (copied, &mut message.source) {
        (Some(content), Source::Document(document)) => {
            document.content = content;
            Ok(message.source.object().map(str::to_owned))
        }
        _ => {
            let detail = "The document of the job is no longer stored. Submit it again.";
            Err(Problem::new(Code::SourceGone, detail))
        }
    }
}
