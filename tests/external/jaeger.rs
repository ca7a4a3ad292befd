//! Reads traces from a real Jaeger: by trace id, by job id, and as a graph of services.

use wordmill_tests::jaeger::Jaeger;
use wordmill_tests::site::Site;
use wordmill_tests::stack::Stack;
use wordmill_tests::traces::cases;
use wordmill_tests::{LIMIT, wait_for};

#[test]
fn jaeger_finds_every_job_by_trace_and_by_job_id() {
    let jaeger = Jaeger::start();
    let endpoint = jaeger.endpoint();
    let settings = cases::settings(&endpoint);
    let mut stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    for case in cases::run(&mut stack, &site, &settings) {
        let trace = wait_for(&format!("the trace of {}", case.job), LIMIT, || {
            jaeger.trace(case.trace_id()).filter(|trace| trace.spans.len() >= case.spans)
        });
        case.verify(&trace);
        for service in ["wordmill-gateway", "wordmill-worker"] {
            let traces = jaeger.search(service, ("job.id", case.job_id()));
            assert_eq!(traces.len(), 1, "traces of {service} for job {}", case.job_id());
            case.verify(&traces[0]);
        }
    }
    let edge = ("wordmill-gateway".to_owned(), "wordmill-worker".to_owned());
    wait_for("the graph has an edge from the gateway to the worker", LIMIT, || {
        jaeger.dependencies().contains(&edge).then_some(())
    });
}

#[test]
fn jaeger_accepts_the_configuration_of_the_stack() {
    assert_eq!(Jaeger::config_error("observability/jaeger/config.yaml"), None);
    // An invalid file is rejected.
    let reason = Jaeger::config_error("observability/prometheus/prometheus.yml");
    assert!(reason.is_some_and(|reason| reason.contains("configuration")));
}
