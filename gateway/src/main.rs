//! `wordmill-gateway`: HTTP in, queue out.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wordmill_common::env::{self, Env};
use wordmill_common::{probe, shutdown, telemetry};
use wordmill_gateway::config::Config;

fn main() -> ExitCode {
    let mut env = Env::from_process();
    let config = Config::read(&mut env);
    if let Err(invalid) = env.finish() {
        return env::report("wordmill-gateway", &invalid);
    }
    if std::env::args().nth(1).as_deref() == Some("healthcheck") {
        let ready = probe::is_ready(config.listen).unwrap_or(false);
        return if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let pipeline = match telemetry::start(&config.telemetry, &telemetry::random_instance()) {
        Ok(pipeline) => pipeline,
        Err(error) => return env::report("wordmill-gateway", &error),
    };
    let code = match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "the gateway ends");
            ExitCode::FAILURE
        }
    };
    // All tasks are gone with their runtime, and so all spans have ended.
    pipeline.finish();
    code
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (WORDMILL_LISTEN)", config.listen))?;
    info!(
        address = %listener.local_addr()?,
        broker = config.broker.url,
        version = env!("CARGO_PKG_VERSION"),
        "gateway listens"
    );
    let stop = CancellationToken::new();
    tokio::select! {
        ended = wordmill_gateway::run(config, listener, stop.clone()) => Ok(ended?),
        () = shutdown::on_signals(stop) => Ok(()),
    }
}
