//! Why two rules count differently: `GET /v1/jobs/{id}/explain?rules=a,b`.

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

/// The rules that are compared if none are named: the default one and the oldest one.
const DEFAULT_RULES: [RuleName; 2] = [RuleName::Unicode, RuleName::Whitespace];

/// The query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// Two different rules, with a comma between.
    #[schemars(extend("pattern" = rules_pattern()))]
    rules: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(crate) struct ExplanationView<'a> {
    job_id: JobId,
    source: &'a SourceInfo,
    /// The rule of the histogram, and the version of Unicode that all rules go by.
    rule: Option<&'a Rule>,
    /// The rules compared.
    rules: [RuleName; 2],
    /// The words of the document by each of them.
    totals: BTreeMap<RuleName, u64>,
    /// How many words more the second one counts; negative if it counts fewer.
    difference: i64,
    /// How much of that the tokens listed here make.
    listed_difference: f64,
    /// What is counted differently, the largest difference first.
    tokens: Vec<TokenView<'a>>,
    /// What was left out of the page, by kind, in bytes.
    dropped_bytes: &'a BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct TokenView<'a> {
    token: &'a str,
    count: u64,
    words: BTreeMap<RuleName, f64>,
    reason: Reason,
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
    let rules = selection.rules.as_deref().map_or(Ok(DEFAULT_RULES), rules)?;
    let stored = find_job::require_job(&app, &key).await?;
    let job = &stored.job;
    results::require_success(job)?;
    let explanation = explanation(&app, job).await?;
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
    let signed = |words: u64| i64::try_from(words).unwrap_or(i64::MAX);
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
        difference: signed(total(right)).saturating_sub(signed(total(left))),
        listed_difference,
        tokens: views.collect(),
        dropped_bytes: &explanation.dropped_bytes,
    }
}

/// Returns what two different rules look like.
fn rules_pattern() -> String {
    let pairs = RuleName::ALL.map(|left| {
        let others = RuleName::ALL.into_iter().filter(|right| *right != left);
        let others: Vec<&str> = others.map(RuleName::as_str).collect();
        format!("{},({})", left.as_str(), others.join("|"))
    });
    format!("^({})$", pairs.join("|"))
}

/// Reads the names of two different rules.
fn rules(names: &str) -> Result<[RuleName; 2], Problem> {
    let invalid = || {
        let names = RuleName::ALL.map(RuleName::as_str).join(", ");
        let detail = format!("The parameter \"rules\" names two different rules of {names}.");
        Problem::new(Code::InvalidQuery, detail)
    };
    let (left, right) = names.split_once(',').ok_or_else(invalid)?;
    let rule = |name: &str| RuleName::parse(name.trim());
    match (rule(left), rule(right)) {
        (Some(left), Some(right)) if left != right => Ok([left, right]),
        _ => Err(invalid()),
    }
}

async fn explanation(app: &App, job: &Job) -> Result<Explanation, Problem> {
    match &job.explanation {
        None => {
            let detail = "The job was not asked to record why rules differ. Submit it again with \
                          \"explain\": true in its options.";
            Err(Problem::new(Code::ExplainNotRecorded, detail))
        }
        Some(ExplanationRef::Inline { explanation }) => Ok(explanation.clone()),
        Some(ExplanationRef::Object { name }) => {
            let reading = tokio::time::timeout(BROKER_DEADLINE, app.results.explanation(name));
            let read = reading.await.map_err(|_| {
                Problem::new(Code::BrokerUnavailable, "The explanation could not be read in time.")
            })?;
            read?.ok_or_else(Problem::result_expired)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_rules_are_named() {
        assert_eq!(rules("office,gmx").unwrap(), [RuleName::Office, RuleName::Gmx]);
        assert_eq!(rules("unicode, office").unwrap(), [RuleName::Unicode, RuleName::Office]);
        for wrong in ["", "unicode", "unicode,unicode", "unicode,words", "unicode,office,gmx"] {
            assert!(rules(wrong).unwrap_err().has_code(Code::InvalidQuery), "{wrong}");
        }
    }
}
