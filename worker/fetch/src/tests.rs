//! Fetches over real sockets on loopback, with a resolver that the test controls.

mod guarding;
mod limiting;
mod observing;
mod receiving;
mod server;
mod statuses;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::header::HeaderMap;
use tokio_rustls::rustls::RootCertStore;

use super::*;

/// Address of test servers; allowed in most tests.
const SERVER_ADDRESS: &str = "127.0.0.1";
/// Address of traps; never allowed.
const TRAP_ADDRESS: &str = "127.0.0.2";

/// Resolver with fixed answers. Each lookup of a name uses the next answer; the last one repeats.
#[derive(Default)]
struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    lookups: AtomicUsize,
}

impl Names {
    fn new<'a>(answers: impl IntoIterator<Item = (&'a str, Vec<Vec<&'a str>>)>) -> Arc<Self> {
        let parse = |answer: Vec<&str>| answer.iter().map(|text| text.parse().unwrap()).collect();
        let answers = answers.into_iter().map(|(name, answers)| {
            (name.to_owned(), answers.into_iter().map(parse).collect::<VecDeque<_>>())
        });
        Arc::new(Self { answers: Mutex::new(answers.collect()), lookups: AtomicUsize::new(0) })
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = answers.get_mut(host).and_then(|answers| match answers.len() {
            0 | 1 => answers.front().cloned(),
            _ => answers.pop_front(),
        });
        let answer = answer.ok_or_else(|| io::Error::other("no such name"));
        Box::pin(std::future::ready(answer))
    }
}

/// Limits that a test can reach quickly, but a busy machine does not reach by chance.
fn short_limits() -> Limits {
    Limits {
        resolve_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        first_byte_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(20),
        ..Limits::default()
    }
}

fn fetcher_with(limits: Limits, allow: &[&str], names: Arc<dyn Resolve>) -> Fetcher {
    let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
    let settings = Settings { limits, allow, ..Settings::default() };
    Fetcher::try_with_roots(&settings, names, RootCertStore::empty()).unwrap()
}

/// Creates a fetcher that may reach test servers, including by the names `served.test` and
/// `other.test`.
fn fetcher(limits: Limits) -> Fetcher {
    let names = Names::new([
        ("served.test", vec![vec![SERVER_ADDRESS]]),
        ("other.test", vec![vec![SERVER_ADDRESS]]),
        ("trapped.test", vec![vec![TRAP_ADDRESS]]),
    ]);
    fetcher_with(limits, &["127.0.0.1/32"], names)
}

async fn get(fetcher: &Fetcher, url: impl AsRef<str>) -> Result<Page, Error> {
    fetcher.get(&Url::parse(url.as_ref()).unwrap(), &|_| ()).await
}

/// Reads a page to its end.
async fn read(page: &mut Page) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = page.chunk().await? {
        assert!((1..=CHUNK_SIZE_MAX).contains(&chunk.len()), "chunk of {} bytes", chunk.len());
        body.extend_from_slice(&chunk);
    }
    assert_eq!(page.chunk().await?, None::<Bytes>, "the end stays the end");
    Ok(body)
}

/// Fetches and reads a page, and returns the error.
async fn failure(fetcher: &Fetcher, url: impl AsRef<str>) -> Error {
    match get(fetcher, url).await {
        Err(error) => error,
        Ok(mut page) => {
            let error = read(&mut page).await.expect_err("the fetch should fail");
            assert!(page.chunk().await.is_err(), "a failed page stays failed");
            error
        }
    }
}
