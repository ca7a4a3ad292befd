//! Formats the subjects of messages, objects and API requests, and parses the job keys in them.

use async_nats::Subject;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use wordmill_common::id::{JobKey, Lane, Owner};

use crate::topology::{
    DEAD_JOBS_PREFIX, EVENTS_PREFIX, JOB_STATE, JOBS_PREFIX, LEASES, WEBHOOK_STATE, WEBHOOKS_PREFIX,
};

/// Returns the subject that carries a job: `jobs.<lane>.<owner>.<job_id>`.
pub(crate) fn job(lane: Lane, key: &JobKey) -> Subject {
    format!("{JOBS_PREFIX}.{lane}.{key}").into()
}

/// Returns the subjects of an owner's jobs in the queue: `jobs.*.<owner>.*`.
pub(crate) fn jobs_of(owner: &Owner) -> String {
    format!("{JOBS_PREFIX}.*.{owner}.*")
}

/// Returns the subject of a dead letter: `dead.<lane>.<owner>.<job_id>`.
pub(crate) fn dead_letter(lane: Lane, key: &JobKey) -> Subject {
    format!("{DEAD_JOBS_PREFIX}.{lane}.{key}").into()
}

/// Replaces the owner in the subject of a dead letter whose message is not a job. An owner may have
/// the same name, because the next token tells the two apart: a sequence number here, a UUID for a
/// job.
pub(crate) const UNREADABLE: &str = "unreadable";

/// Returns the subject of the dead letter of a message that is not a job:
/// `dead.<lane>.unreadable.<stream sequence>`.
pub(crate) fn dead_unreadable(lane: Lane, sequence: u64) -> Subject {
    format!("{DEAD_JOBS_PREFIX}.{lane}.{UNREADABLE}.{sequence}").into()
}

/// Returns the subject of a job's record: `$KV.job_state.<owner>.<job_id>`.
pub(crate) fn record(key: &JobKey) -> Subject {
    format!("$KV.{JOB_STATE}.{key}").into()
}

/// Returns the subject of direct gets from a stream, which any replica answers.
pub(crate) fn direct_get(stream: &str) -> Subject {
    format!("$JS.API.DIRECT.GET.{stream}").into()
}

/// Returns the job in the subject of a record; `None` if it has another form.
pub(crate) fn job_of_record(subject: &str) -> Option<JobKey> {
    let key = subject.strip_prefix("$KV.")?.strip_prefix(JOB_STATE)?.strip_prefix('.')?;
    let (owner, job_id) = key.split_once('.')?;
    parse_job_key(owner, job_id)
}

/// Returns the job in the subject of a message in `JOBS`; `None` if it has another form.
pub(crate) fn job_of_message(subject: &str) -> Option<JobKey> {
    let mut tokens = subject.split('.').skip(2);
    parse_job_key(tokens.next()?, tokens.next()?)
}

/// Returns the job in the subject of a webhook; `None` if it has another form.
pub(crate) fn job_of_webhook(subject: &str) -> Option<JobKey> {
    let (owner, job_id) =
        subject.strip_prefix(WEBHOOKS_PREFIX)?.strip_prefix('.')?.split_once('.')?;
    parse_job_key(owner, job_id)
}

fn parse_job_key(owner: &str, job_id: &str) -> Option<JobKey> {
    Some(JobKey { owner: owner.to_owned().try_into().ok()?, job_id: job_id.parse().ok()? })
}

/// Returns the subject of a webhook in the queue: `webhooks.<owner>.<job_id>`.
pub(crate) fn webhook(key: &JobKey) -> Subject {
    format!("{WEBHOOKS_PREFIX}.{key}").into()
}

/// Returns the subject of the delivery state of a webhook: `$KV.webhook_state.<owner>.<job_id>`.
pub(crate) fn webhook_state(key: &JobKey) -> Subject {
    format!("$KV.{WEBHOOK_STATE}.{key}").into()
}

/// Returns the subject of a lease: `$KV.leases.<duty>`.
pub(crate) fn lease(duty: &str) -> Subject {
    format!("$KV.{LEASES}.{duty}").into()
}

/// Returns the subject of the presence of a worker: `$KV.leases.worker.<id>`.
pub(crate) fn worker(id: &str) -> Subject {
    format!("$KV.{LEASES}.worker.{id}").into()
}

/// Returns the subject of the metadata of an object. The name is encoded as URL-safe base64.
pub(crate) fn object_meta(bucket: &str, name: &str) -> String {
    format!("$O.{bucket}.M.{}", URL_SAFE.encode(name))
}

/// Returns the subject of the chunks of an object. The id `*` selects the chunks of all objects.
pub(crate) fn object_chunks(bucket: &str, nuid: &str) -> String {
    format!("$O.{bucket}.C.{nuid}")
}

/// Returns the subject on which the changes of a record are republished.
pub(crate) fn events(key: &JobKey) -> Subject {
    format!("{EVENTS_PREFIX}.{}", record(key)).into()
}

/// Returns the subject of pull requests to a consumer.
pub(crate) fn pull_request(stream: &str, consumer: &str) -> Subject {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::JOBS;

    #[test]
    fn subjects_match_the_documentation() {
        let job_id = "0198f0c2-0000-7000-8000-000000000000".parse().unwrap();
        let key = JobKey { owner: Owner::public(), job_id };
        let spelled = [
            job(Lane::Interactive, &key),
            dead_letter(Lane::Bulk, &key),
            dead_unreadable(Lane::Bulk, 7),
            record(&key),
            events(&key),
            direct_get(JOBS),
            worker("1f"),
            pull_request(JOBS, Lane::Bulk.as_str()),
            jobs_of(&key.owner).into(),
            webhook(&key),
            webhook_state(&key),
        ];
        let expected = [
            "jobs.interactive.public.0198f0c2-0000-7000-8000-000000000000",
            "dead.bulk.public.0198f0c2-0000-7000-8000-000000000000",
            "dead.bulk.unreadable.7",
            "$KV.job_state.public.0198f0c2-0000-7000-8000-000000000000",
            "events.$KV.job_state.public.0198f0c2-0000-7000-8000-000000000000",
            "$JS.API.DIRECT.GET.JOBS",
            "$KV.leases.worker.1f",
            "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk",
            "jobs.*.public.*",
            "webhooks.public.0198f0c2-0000-7000-8000-000000000000",
            "$KV.webhook_state.public.0198f0c2-0000-7000-8000-000000000000",
        ];
        assert_eq!(job_of_record(&spelled[3]), Some(key.clone()));
        assert_eq!(job_of_message(&spelled[0]), Some(key.clone()));
        assert_eq!(job_of_webhook(&spelled[9]), Some(key));
        assert_eq!(spelled.map(|subject| subject.to_string()), expected);
    }
}
