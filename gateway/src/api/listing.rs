//! `GET /v1/jobs`: lists the caller's jobs, latest change first.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::warn;
use url::form_urlencoded;
use wordmill_common::job::Status;
use wordmill_nats::listing::ListFilter;

use crate::App;
use crate::auth::caller::Caller;
use crate::http::cursor;
use crate::http::cursor::ListPage;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::read::job_view::JobView;

/// Maximum number of jobs on one page.
const LIMIT_MAX: usize = 100;
/// Default number of jobs on one page.
const LIMIT_DEFAULT: usize = 20;

/// Query parameters of `GET /v1/jobs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Only jobs with this status.
    status: Option<Status>,
    /// Only jobs with this label, as `name:value`.
    #[schemars(extend("pattern" = "^[^:]+:"))]
    label: Option<String>,
    /// Cursor of the page: the `next_cursor` of the previous page.
    #[schemars(extend("pattern" = cursor::PATTERN))]
    cursor: Option<String>,
    /// Maximum number of jobs on the page; 20 by default.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
}

/// `GET /v1/jobs`.
pub(crate) async fn list_jobs(
    State(app): State<App>,
    caller: Caller,
    selection: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidQuery, detail);
    let Query(selection) =
        selection.map_err(|rejection| invalid(format!("{}.", rejection.body_text())))?;
    let limit = selection.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("\"limit\" must be 1 to {LIMIT_MAX}.")));
    }
    let before = cursor::from_query(selection.cursor.as_deref())?;
    let label = selection.label.as_deref().map(|label| {
        let (name, value) = label.split_once(':').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    });
    let label = match label {
        Some(None) => return Err(invalid("\"label\" must have the form name:value.".to_owned())),
        Some(label) => label,
        None => None,
    };
    let filter = ListFilter { status: selection.status, label };

    let page = app.listing.list(&caller.owner, &filter, before, limit);
    let page = tokio::time::timeout(BROKER_DEADLINE, page).await.map_err(|_| {
        let detail = "The records could not be read in time. Try again.";
        Problem::new(Code::BrokerUnavailable, detail)
    })??;
    let shown = page.records.iter().filter_map(|(key, record)| {
        let view = app.view_record(record, key);
        view.inspect_err(|error| {
            warn!(job.id = %key.job_id, %error, "cannot read a job record; omitting it from a list");
        })
        .ok()
    });
    let data: Vec<JobView<'_>> = shown.collect();
    let next = page.next.map(cursor::encode);
    let link = next.as_ref().and_then(|next| next_page_link(&selection, next));
    let mut response = Json(ListPage { data, next_cursor: next }).into_response();
    response.headers_mut().extend(link.map(|link| (LINK, link)));
    Ok(response)
}

/// Returns the `Link` to the next page: the same query with another cursor.
fn next_page_link(selection: &ListQuery, next: &str) -> Option<HeaderValue> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(status) = selection.status {
        query.append_pair("status", status.as_str());
    }
    if let Some(label) = &selection.label {
        query.append_pair("label", label);
    }
    if let Some(limit) = selection.limit {
        query.append_pair("limit", &limit.to_string());
    }
    let query = query.append_pair("cursor", next).finish();
    HeaderValue::try_from(format!("</v1/jobs?{query}>; rel=\"next\"")).ok()
}
