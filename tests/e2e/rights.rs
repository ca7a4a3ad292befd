//! What each role may do, and what it may not: the tables of [`roles`](crate::roles).

/// The job that waits in the queue, and must still wait there when everybody was refused.
pub const JOB: &str = "jobs.interactive.public.0198f0c2-0000-7000-8000-000000000001";
/// Its record.
pub const RECORD: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-000000000001";

/// What nobody but the administrator may publish.
pub const NOBODY_PUBLISHES: &[&str] = &[
    "$JS.API.STREAM.CREATE.OTHER",
    "$JS.API.STREAM.UPDATE.JOBS",
    "$JS.API.STREAM.DELETE.JOBS",
    "$JS.API.STREAM.DELETE.KV_job_state",
    "$JS.API.STREAM.PURGE.JOBS",
    "$JS.API.STREAM.PURGE.KV_job_state",
    "$JS.API.STREAM.PURGE.DEAD_JOBS",
    "$JS.API.STREAM.MSG.DELETE.KV_job_state",
    "$JS.API.CONSUMER.CREATE.JOBS",
    "$JS.API.CONSUMER.CREATE.JOBS.thief.jobs.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.JOBS.thief",
    "$JS.API.CONSUMER.DELETE.JOBS.interactive",
    "$JS.API.CONSUMER.PAUSE.JOBS.interactive",
    "$JS.API.STREAM.MSG.DELETE.OBJ_documents",
    "$JS.API.STREAM.UPDATE.OBJ_documents",
    "events.$KV.job_state.public.x",
    "_INBOX_gateway.x",
    "_INBOX_worker.x",
    "anything",
];

/// What a role may not publish besides.
pub const PUBLISHES_NOT: &[(&str, &[&str])] = &[
    (
        "gateway",
        &[
            "dead.interactive.public.x",
            "$JS.ACK.JOBS.interactive.1.1.1.1.0",
            "$JS.API.CONSUMER.MSG.NEXT.JOBS.interactive",
            "$JS.API.STREAM.MSG.DELETE.JOBS",
            "$JS.API.STREAM.MSG.DELETE.OBJ_results",
            "$JS.API.CONSUMER.CREATE.OBJ_documents.x.$O.documents.>",
            "$JS.API.DIRECT.GET.KV_leases.$KV.leases.sweeper",
            "$JS.API.STREAM.LIST",
            "$KV.leases.sweeper",
            "$KV.leases.worker.x",
            "$O.results.M.x",
        ],
    ),
    (
        "worker",
        &[
            JOB,
            "$JS.API.STREAM.MSG.GET.JOBS",
            "$JS.API.STREAM.MSG.DELETE.JOBS",
            "$JS.API.DIRECT.GET.JOBS",
            "$JS.API.STREAM.MSG.GET.DEAD_JOBS",
            "$JS.API.STREAM.MSG.DELETE.DEAD_JOBS",
            "$JS.API.CONSUMER.MSG.NEXT.DEAD_JOBS.x",
            "$JS.API.STREAM.PURGE.OBJ_results",
            "$JS.API.CONSUMER.CREATE.OBJ_documents.x.$O.documents.>",
            "$O.documents.C.x",
            "$O.documents.M.x",
            "$JS.API.STREAM.LIST",
            "$KV.leases.sweeper",
        ],
    ),
    (
        "sweeper",
        &[
            JOB,
            "dead.interactive.public.x",
            "$JS.API.STREAM.MSG.DELETE.DEAD_JOBS",
            "$JS.ACK.JOBS.interactive.1.1.1.1.0",
            "$JS.API.CONSUMER.MSG.NEXT.JOBS.interactive",
            "$O.results.M.x",
            "$O.documents.M.x",
        ],
    ),
    (
        "inspector",
        &[
            JOB,
            RECORD,
            "dead.interactive.public.x",
            "$JS.API.STREAM.MSG.DELETE.DEAD_JOBS",
            "$JS.ACK.JOBS.interactive.1.1.1.1.0",
            "$JS.API.CONSUMER.MSG.NEXT.JOBS.interactive",
            "$JS.API.STREAM.MSG.DELETE.JOBS",
            "$JS.API.STREAM.PURGE.OBJ_results",
            "$JS.API.STREAM.PURGE.OBJ_documents",
            "$KV.leases.sweeper",
            "$O.results.M.x",
            "$O.documents.M.x",
        ],
    ),
];

/// What nobody but the administrator may listen to; nor may anyone listen to another's answers.
pub const NOBODY_HEARS: &[&str] =
    &[">", "jobs.>", "dead.>", "$KV.>", "$JS.API.>", "$JS.ACK.>", "_INBOX.>", "_INBOX_admin.>"];

/// What must be answered, and not by an error: role, subject, payload.
pub const ANSWERED: &[(&str, &str, &str)] = &[
    ("gateway", "jobs.bulk.public.x", "{}"),
    ("gateway", "$KV.job_state.public.x", "{}"),
    ("gateway", "$JS.API.STREAM.INFO.JOBS", ""),
    ("gateway", "$JS.API.STREAM.MSG.GET.JOBS", r#"{"last_by_subj":"jobs.bulk.public.x"}"#),
    ("gateway", "$JS.API.DIRECT.GET.JOBS.jobs.bulk.public.x", ""),
    ("gateway", "$JS.API.DIRECT.GET.JOBS", r#"{"seq":1,"next_by_subj":"jobs.bulk.>"}"#),
    ("gateway", "$JS.API.CONSUMER.INFO.JOBS.bulk", ""),
    ("gateway", "$JS.API.STREAM.INFO.DEAD_JOBS", r#"{"subjects_filter":"dead.bulk.>"}"#),
    ("gateway", "$JS.API.DIRECT.GET.KV_job_state.$KV.job_state.public.x", ""),
    ("worker", "$JS.API.CONSUMER.INFO.JOBS.bulk", ""),
    ("worker", "$KV.job_state.public.x", "{}"),
    ("worker", "$KV.leases.worker.x", "{}"),
    ("worker", "$O.results.C.x", "chunk"),
    ("worker", "$O.results.M.x", "{}"),
    ("worker", "dead.bulk.public.x", "{}"),
    ("gateway", "$JS.API.DIRECT.GET.OBJ_results", r#"{"seq":1,"next_by_subj":"$O.results.C.x"}"#),
    ("gateway", "$JS.API.DIRECT.GET.OBJ_results.$O.results.M.x", ""),
    ("sweeper", "$KV.leases.sweeper", "{}"),
    ("sweeper", "$JS.API.STREAM.MSG.GET.KV_leases", r#"{"last_by_subj":"$KV.leases.sweeper"}"#),
    ("sweeper", "$JS.API.DIRECT.GET.JOBS", r#"{"seq":1,"next_by_subj":"jobs.>"}"#),
    ("sweeper", "$JS.API.DIRECT.GET.KV_job_state", r#"{"seq":1,"next_by_subj":"$KV.job_state.>"}"#),
    ("sweeper", "$JS.API.DIRECT.GET.OBJ_results", r#"{"seq":1,"next_by_subj":"$O.results.M.>"}"#),
    ("sweeper", "$JS.API.STREAM.PURGE.OBJ_results", r#"{"filter":"$O.results.M.x"}"#),
    ("inspector", "$JS.API.STREAM.LIST", ""),
    ("inspector", "$JS.API.CONSUMER.LIST.JOBS", ""),
    ("inspector", "$JS.API.STREAM.MSG.GET.JOBS", r#"{"last_by_subj":"jobs.bulk.public.x"}"#),
    ("inspector", "$JS.API.DIRECT.GET.KV_job_state.$KV.job_state.public.x", ""),
    ("inspector", "$JS.API.DIRECT.GET.DEAD_JOBS.dead.bulk.public.x", ""),
    ("gateway", "$JS.API.STREAM.INFO.DEAD_JOBS", ""),
    ("gateway", "$JS.API.DIRECT.GET.DEAD_JOBS.dead.bulk.public.x", ""),
    ("gateway", "$JS.API.DIRECT.GET.DEAD_JOBS", r#"{"seq":1,"next_by_subj":"dead.*.*.*"}"#),
    ("gateway", "$JS.API.STREAM.MSG.GET.DEAD_JOBS", r#"{"last_by_subj":"dead.bulk.public.x"}"#),
    ("gateway", "$JS.API.STREAM.MSG.GET.OBJ_results", r#"{"last_by_subj":"$O.results.C.x"}"#),
    ("gateway", "$JS.API.STREAM.PURGE.OBJ_results", r#"{"filter":"$O.results.C.x"}"#),
    ("gateway", "$O.documents.C.x", "chunk"),
    ("gateway", "$O.documents.M.x", "{}"),
    ("gateway", "$JS.API.DIRECT.GET.OBJ_documents.$O.documents.M.x", ""),
    (
        "gateway",
        "$JS.API.DIRECT.GET.OBJ_documents",
        r#"{"seq":1,"next_by_subj":"$O.documents.C.x"}"#,
    ),
    ("gateway", "$JS.API.STREAM.MSG.GET.OBJ_documents", r#"{"last_by_subj":"$O.documents.M.x"}"#),
    ("worker", "$JS.API.DIRECT.GET.OBJ_documents.$O.documents.M.x", ""),
    (
        "worker",
        "$JS.API.DIRECT.GET.OBJ_documents",
        r#"{"seq":1,"next_by_subj":"$O.documents.C.x"}"#,
    ),
    ("worker", "$JS.API.STREAM.MSG.GET.OBJ_documents", r#"{"last_by_subj":"$O.documents.C.x"}"#),
    ("sweeper", "$JS.API.DIRECT.GET.OBJ_documents.$O.documents.M.x", ""),
    ("sweeper", "$JS.API.STREAM.INFO.OBJ_documents", r#"{"subjects_filter":"$O.documents.C.*"}"#),
    ("sweeper", "$JS.API.STREAM.INFO.DEAD_JOBS", ""),
    ("sweeper", "$JS.API.DIRECT.GET.DEAD_JOBS.dead.bulk.public.x", ""),
    ("sweeper", "$JS.API.STREAM.MSG.GET.DEAD_JOBS", r#"{"last_by_subj":"dead.bulk.public.x"}"#),
    ("sweeper", "$JS.API.STREAM.MSG.GET.OBJ_documents", r#"{"last_by_subj":"$O.documents.C.x"}"#),
    ("worker", "$JS.API.STREAM.PURGE.OBJ_documents", r#"{"filter":"$O.documents.C.x"}"#),
    ("gateway", "$JS.API.STREAM.PURGE.OBJ_documents", r#"{"filter":"$O.documents.M.x"}"#),
    ("sweeper", "$JS.API.STREAM.PURGE.OBJ_documents", r#"{"filter":"$O.documents.M.x"}"#),
    ("gateway", "$JS.API.STREAM.MSG.DELETE.DEAD_JOBS", r#"{"seq":1}"#),
    (
        "gateway",
        "$JS.API.DIRECT.GET.KV_job_state",
        r#"{"seq":1,"next_by_subj":"$KV.job_state.public.*"}"#,
    ),
    (
        "gateway",
        "$JS.API.DIRECT.GET.KV_leases",
        r#"{"seq":1,"next_by_subj":"$KV.leases.worker.*"}"#,
    ),
];
