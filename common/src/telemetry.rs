//! What a service says about itself: logs on standard output, one event a line.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::env::Env;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Coloured text, for a terminal.
    Pretty,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Pretty => "pretty",
        })
    }
}

/// Settings of the log.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_LOG`: what is logged, in the form of `tracing_subscriber`'s `EnvFilter`.
    pub filter: String,
    /// `WORDMILL_LOG_FORMAT`: `json` or `pretty`.
    pub format: LogFormat,
}

impl Config {
    /// Reads the settings.
    pub fn read(env: &mut Env) -> Self {
        let filter = env.read("WORDMILL_LOG", "info".to_owned(), |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
        });
        let format = env.read("WORDMILL_LOG_FORMAT", LogFormat::Json, |text| match text {
            "json" => Ok(LogFormat::Json),
            "pretty" => Ok(LogFormat::Pretty),
            _ => Err("neither json nor pretty".to_owned()),
        });
        Self { filter, format }
    }
}

/// Starts the log. Called once, by `main`.
pub fn start(config: &Config) {
    // The broker's client repeats what we log ourselves, with more context.
    let filter = EnvFilter::new(format!("async_nats=error,{}", config.filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::NONE);
    match config.format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
        LogFormat::Pretty => builder.with_target(false).with_ansi(false).compact().init(),
    }
}
