//! Files that are read again while the service runs: keys, certificates.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Makes something of the contents of the files; `old` is what was made of them before.
pub(crate) type Parse<T> = fn(contents: &[Vec<u8>], old: Option<&T>) -> Result<T, String>;

/// Why files cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {what} cannot be used: {reason}")]
pub struct Error {
    what: &'static str,
    reason: String,
}

/// Files, and what was made of them last.
pub(crate) struct FileWatch<T> {
    what: &'static str,
    paths: Vec<PathBuf>,
    parse: Parse<T>,
    contents: Vec<Vec<u8>>,
    current: watch::Sender<Arc<T>>,
    /// Asks for a look; listened to from the beginning, because an unheard one ends the process.
    hangup: Option<Signal>,
    /// What was wrong at the last look: it is said once.
    wrong: Option<String>,
}

impl<T> FileWatch<T> {
    /// Reads the files for the first time. `what` says in messages what they are.
    ///
    /// # Errors
    /// A file that cannot be read, or contents of which nothing can be made.
    pub(crate) async fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        parse: Parse<T>,
    ) -> Result<(Self, watch::Receiver<Arc<T>>), Error> {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| warn!(%error, "SIGHUP is not listened to"))
            .ok();
        let wrong = |reason| Error { what, reason };
        let contents = read(&paths).await.map_err(wrong)?;
        let (current, receiver) = watch::channel(Arc::new(parse(&contents, None).map_err(wrong)?));
        Ok((Self { what, paths, parse, contents, current, hangup, wrong: None }, receiver))
    }

    /// Reads the files again every few seconds, and at SIGHUP, for as long as it is polled. What
    /// cannot be used changes nothing.
    pub(crate) async fn follow(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
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
        let looked = read(&self.paths).await.and_then(|contents| {
            // Times of modification are too coarse, and a mounted secret changes under a link.
            if contents == self.contents {
                return Ok(None);
            }
            let old = Arc::clone(&self.current.borrow());
            (self.parse)(&contents, Some(&old)).map(|new| Some((contents, new)))
        });
        match looked {
            Ok(None) => self.wrong = None,
            Ok(Some((contents, new))) => {
                (self.contents, self.wrong) = (contents, None);
                self.current.send_replace(Arc::new(new));
                info!(what = self.what, "files read again");
            }
            Err(reason) if self.wrong.as_ref() == Some(&reason) => {}
            Err(reason) => {
                error!(
                    what = self.what,
                    reason, "changed files cannot be used; the old ones count"
                );
                self.wrong = Some(reason);
            }
        }
    }
}

async fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
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
