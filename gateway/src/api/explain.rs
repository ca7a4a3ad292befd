//! `GET /v1/jobs/{id}/explain?rules=a,b`: explains why two rules count differently.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wordmill_common::explanation::{Explanation, Reason, Sample};
use wordmill_common::histogram::Rule;
use wordmill_common::id::JobId;
use wordmill_common::job::{ExplanationRef, Job};
use wordmill_common::options::RuleName;
use wordmill_common::source::SourceInfo;

use crate::App;
use crate::api::results;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::read::find_job::{self, JobPath};

/// Rules that are compared by default: the default rule and the oldest one.
const DEFAULT_RULES: [RuleName; 2] = [RuleName::Unicode, RuleName::Whitespace];

/// Query parameters of `GET /v1/jobs/{id}/explain`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// Two different rules, separated by a comma; `unicode,whitespace` by default.
    #[schemars(extend("pattern" = rules_pattern()))]
    rules: Option<String>,
}

/// Tokens that two rules count differently.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(crate) struct ExplanationView<'a> {
    /// Id of the job.
    job_id: JobId,
    /// Source of the words.
    source: &'a SourceInfo,
    /// Rule of the histogram, and the version of Unicode that all rules use.
    rule: Option<&'a Rule>,
    /// The two rules that are compared.
    rules: [RuleName; 2],
    /// Number of words under each of the two rules.
    totals: BTreeMap<RuleName, u64>,
    /// Words under the second rule minus words under the first.
    difference: i64,
    /// Part of `difference` that the listed tokens cause.
    listed_difference: f64,
    /// Tokens that are counted differently, the largest difference first.
    tokens: Vec<TokenView<'a>>,
    /// Bytes of the page that were not counted, by kind of content.
    dropped_bytes: &'a BTreeMap<String, u64>,
}

/// A token that two rules count differently.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct TokenView<'a> {
    /// Text of the token, shortened if it is long.
    token: &'a str,
    /// Number of occurrences.
    count: u64,
    /// Number of words in one occurrence under each rule. It may be a fraction.
    words: BTreeMap<RuleName, f64>,
    /// Property of the token that causes the difference.
    reason: Reason,
    /// The first occurrences, with the text around them.
    samples: &'a [Sample],
}

/// `GET /v1/jobs/{id}/explain`.
pub(crate) async fn explain_job(
    State(app): State<App>,
    JobPath(key): JobPath,
    selection: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(selection) = selection.map_err(|rejection| {
        Problem::new(Code::InvalidQuery, format!("{}.", rejection.body_text()))
    })?;
    let rules = selection.rules.as_deref().map_or(Ok(DEFAULT_RULES), parse_rules)?;
    let stored = find_job::require_job(&app, &key).await?;
    let job = &stored.job;
    results::require_success(job)?;
    let explanation = read_explanation(&app, job).await?;
    Ok(Json(compare(job, &explanation, rules)).into_response())
}

fn compare<'a>(
    job: &'a Job,
    explanation: &'a Explanation,
    [left, right]: [RuleName; 2],
) -> ExplanationView<'a> {
    let total = |rule: RuleName| {
        let totals = job.totals_by_rule.as_ref();
        totals.and_then(|totals| totals.get(rule.as_str()).copied()).unwrap_or_default()
    };
    let tokens = explanation.largest_differences(left, right);
    let listed_difference = tokens.iter().map(|token| token.difference(left, right)).sum();
    let to_i64 = |words: u64| i64::try_from(words).unwrap_or(i64::MAX);
    let views = tokens.into_iter().map(|token| TokenView {
        token: &token.token,
        count: token.count,
        words: [left, right]
            .into_iter()
            .filter_map(|rule| Some((rule, *token.words.get(&rule)?)))
            .collect(),
        reason: token.reason,
        samples: &token.samples,
    });
    ExplanationView {
        job_id: job.job_id,
        source: &job.source,
        rule: job.rule.as_ref(),
        rules: [left, right],
        totals: [(left, total(left)), (right, total(right))].into(),
        difference: to_i64(total(right)).saturating_sub(to_i64(total(left))),
        listed_difference,
        tokens: views.collect(),
        dropped_bytes: &explanation.dropped_bytes,
    }
}

/// Returns a regular expression for two different rules.
fn rules_pattern() -> String {
    let pairs = RuleName::ALL.map(|left| {
        let others = RuleName::ALL.into_iter().filter(|right| *right != left);
        let others: Vec<&str> = others.map(RuleName::as_str).collect();
        format!("{},({})", left.as_str(), others.join("|"))
    });
    format!("^({})$", pairs.join("|"))
}

/// Parses the names of two different rules, separated by a comma.
fn parse_rules(names: &str) -> Result<[RuleName; 2], Problem> {
    let invalid = || {
        let names = RuleName::ALL.map(RuleName::as_str).join(", ");
        let detail = format!(
            "The parameter \"rules\" must list two different rules, separated by a comma. The \
             rules are {names}."
        );
        Problem::new(Code::InvalidQuery, detail)
    };
    let (left, right) = names.split_once(',').ok_or_else(invalid)?;
    let rule = |name: &str| RuleName::parse(name.trim());
    match (rule(left), rule(right)) {
        (Some(left), Some(right)) if left != right => Ok([left, right]),
        _ => Err(invalid()),
    }
}

async fn read_explanation(app: &App, job: &Job) -> Result<Explanation, Problem> {
    match &job.explanation {
        None => {
            let detail = "No explanation was recorded for this job. Submit it again with \
                          \"explain\": true in its options.";
            Err(Problem::new(Code::ExplainNotRecorded, detail))
        }
        Some(ExplanationRef::Inline { explanation }) => Ok(explanation.clone()),
        Some(ExplanationRef::Object { name }) => {
            let reading = tokio::time::timeout(BROKER_DEADLINE, app.results.explanation(name));
            let read = reading.await.map_err(|_| {
                Problem::new(
                    Code::BrokerUnavailable,
                    "The explanation could not be read in time. Try again.",
                )
            })?;
            read?.ok_or_else(Problem::result_expired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_rules_are_required() {
        assert_eq!(parse_rules("office,gmx").unwrap(), [RuleName::Office, RuleName::Gmx]);
        assert_eq!(parse_rules("unicode, office").unwrap(), [RuleName::Unicode, RuleName::Office]);
        for wrong in ["", "unicode", "unicode,unicode", "unicode,words", "unicode,office,gmx"] {
            assert!(parse_rules(wrong).unwrap_err().has_code(Code::InvalidQuery), "{wrong}");
        }
    }
}
