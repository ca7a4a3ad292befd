//! Reloads files while the service runs: API keys and TLS certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// Interval between two checks of the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum size of a file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Parses the contents of the files. `old` is the previous value, if there is one.
pub(crate) type Parse<T> = fn(contents: &[Vec<u8>], old: Option<&T>) -> Result<T, String>;

/// Reason why files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the {name}: {reason}")]
pub struct Error {
    name: &'static str,
    reason: String,
}

/// Watched files, and the value that was last parsed from them.
pub(crate) struct FileWatch<T> {
    name: &'static str,
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    contents: Vec<Vec<u8>>,
    current: watch::Sender<Arc<T>>,
    /// Signal that triggers a check. It is registered at startup, because an unhandled SIGHUP would
    /// end the process.
    hangup: Option<Signal>,
    /// Error of the last check. A repeated error is logged only once.
    last_error: Option<String>,
}

impl<T> FileWatch<T> {
    /// Reads the files for the first time. Messages contain `name`, for example `API keys`.
    ///
    /// # Errors
    /// If a file cannot be read, or `parse` refuses the contents.
    pub(crate) async fn open(
        name: &'static str,
        paths: Vec<PathBuf>,
        parse: Parse<T>,
    ) -> Result<(Self, watch::Receiver<Arc<T>>), Error> {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| {
                warn!(
                    %error,
                    "cannot listen for SIGHUP; the signal would end the process, but changed \
                     files are found by polling"
                );
            })
            .ok();
        let error = |reason| Error { name, reason };
        let contents = read_files(&paths).await.map_err(error)?;
        let (current, receiver) = watch::channel(Arc::new(parse(&contents, None).map_err(error)?));
        Ok((Self { name, paths, parse, contents, current, hangup, last_error: None }, receiver))
    }

    /// Checks the files at each interval and on SIGHUP, until the future is dropped. After an
    /// error, the previous value stays in use.
    pub(crate) async fn follow(mut self) {
        let mut ticks = tokio::time::interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = self.hangup.take();
        loop {
            let signal = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = ticks.tick() => {}
                _ = signal => {}
            }
            self.reload().await;
        }
    }

    async fn reload(&mut self) {
        let reloaded = read_files(&self.paths).await.and_then(|contents| {
            // Compare contents: modification times are too coarse, and a mounted secret changes
            // behind a symbolic link.
            if contents == self.contents {
                return Ok(None);
            }
            let old = Arc::clone(&self.current.borrow());
            (self.parse)(&contents, Some(&old)).map(|new| Some((contents, new)))
        });
        match reloaded {
            Ok(None) => self.last_error = None,
            Ok(Some((contents, new))) => {
                (self.contents, self.last_error) = (contents, None);
                self.current.send_replace(Arc::new(new));
                info!(what = self.name, "files reloaded");
            }
            Err(reason) if self.last_error.as_ref() == Some(&reason) => {}
            Err(reason) => {
                error!(
                    what = self.name,
                    reason, "cannot use the changed files; keeping the previous ones"
                );
                self.last_error = Some(reason);
            }
        }
    }
}

async fn read_files(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    let mut contents = Vec::with_capacity(paths.len());
    for path in paths {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = tokio::fs::File::open(path).await.map_err(failed)?;
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).await.map_err(failed)?;
        if u64::try_from(content.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
            return Err(format!("{}: larger than {FILE_BYTES_MAX} bytes", path.display()));
        }
        contents.push(content);
    }
    Ok(contents)
}
