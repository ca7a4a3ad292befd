//! How it is measured: sides take slices of work in turns, so that whatever else the machine does, and
//! how fast it happens to be, hits all of them alike. What is compared is one round with itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

/// A piece of work that was done.
pub struct Slice {
    pub count: usize,
    pub elapsed: Duration,
    pub latencies: Vec<Duration>,
}

impl Slice {
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

/// One way to do the work.
pub struct Side<'a> {
    pub name: String,
    run: Box<dyn Fn() -> LocalBoxFuture<'a, Result<Slice>> + 'a>,
}

impl<'a> Side<'a> {
    pub fn new<F: Future<Output = Result<Slice>> + 'a>(
        name: impl Into<String>,
        run: impl Fn() -> F + 'a,
    ) -> Self {
        Self { name: name.into(), run: Box::new(move || Box::pin(run())) }
    }
}

/// How long a comparison takes: at most so many rounds, and as few as [`ROUNDS_MIN`] once the time is
/// over.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub rounds: usize,
    pub seconds: u64,
}

/// Fewer rounds say nothing about their spread.
const ROUNDS_MIN: usize = 3;

/// What one side came to, round by round.
pub struct Measured {
    pub name: String,
    /// How much was done, warming up included.
    pub done: usize,
    pub rates: Vec<f64>,
    pub latencies: Vec<Duration>,
}

/// Lets the sides take slices in turns, each round beginning with another one. The first round warms up
/// and does not count.
pub async fn in_turns(sides: &[Side<'_>], bounds: Bounds) -> Result<Vec<Measured>> {
    let empty = |side: &Side<'_>| Measured {
        name: side.name.clone(),
        done: 0,
        rates: Vec::new(),
        latencies: Vec::new(),
    };
    let mut measured: Vec<Measured> = sides.iter().map(empty).collect();
    for (side, measured) in sides.iter().zip(&mut measured) {
        measured.done += (side.run)().await?.count;
    }
    let end = Instant::now() + Duration::from_secs(bounds.seconds);
    for round in 0..bounds.rounds {
        if round >= ROUNDS_MIN && Instant::now() > end {
            break;
        }
        for turn in 0..sides.len() {
            let place = (round + turn) % sides.len();
            let slice = (sides[place].run)().await?;
            let side = &mut measured[place];
            side.done += slice.count;
            side.rates.push(slice.per_second());
            side.latencies.extend(slice.latencies);
        }
    }
    Ok(measured)
}

/// The middle of some values, and how far they spread.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
        };
        Self { median, low: at(0), high: at(values.len().wrapping_sub(1)) }
    }
}

impl Measured {
    pub fn rate(&self) -> Spread {
        Spread::of(self.rates.iter().copied())
    }

    /// Returns how much of `floor` this side reaches, round by round.
    pub fn share_of(&self, floor: &Self) -> Spread {
        Spread::of(self.rates.iter().zip(&floor.rates).map(|(ours, floor)| ours / floor))
    }

    /// Returns the time within which so many of a thousand were done, in milliseconds.
    pub fn within_ms(&self, per_mille: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * per_mille).div_ceil(1000).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Returns the fastest of several.
pub fn best<'a>(sides: impl IntoIterator<Item = &'a Measured>) -> Option<&'a Measured> {
    sides.into_iter().max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))
}
