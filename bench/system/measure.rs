//! The method of measurement: the sides run slices of work in turns, so that other load and the
//! speed of the machine affect all of them alike. Ratios are formed within one round.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::LocalBoxFuture;

/// The result of one slice of work.
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

/// Bounds of a comparison: at most `rounds` rounds, and no new round after `seconds`, but at least
/// [`ROUNDS_MIN`].
#[derive(Clone, Copy)]
pub struct Bounds {
    pub rounds: usize,
    pub seconds: u64,
}

/// Minimum number of rounds; fewer show no spread.
const ROUNDS_MIN: usize = 3;

/// The results of one side, round by round.
pub struct SideResult {
    pub name: String,
    /// The number of jobs or requests, including the warm-up round.
    pub done: usize,
    pub rates: Vec<f64>,
    pub latencies: Vec<Duration>,
}

/// Runs the sides in turns, each round starting with another side. The first round is a warm-up and
/// does not count.
pub async fn run_in_turns(sides: &[Side<'_>], bounds: Bounds) -> Result<Vec<SideResult>> {
    let empty = |side: &Side<'_>| SideResult {
        name: side.name.clone(),
        done: 0,
        rates: Vec::new(),
        latencies: Vec::new(),
    };
    let mut measured: Vec<SideResult> = sides.iter().map(empty).collect();
    for (side, measured) in sides.iter().zip(&mut measured) {
        measured.done += (side.run)().await?.count;
    }
    let end = Instant::now() + Duration::from_secs(bounds.seconds);
    for round in 0..bounds.rounds {
        if round >= ROUNDS_MIN && Instant::now() > end {
            break;
        }
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let slice = (sides[index].run)().await?;
            let side = &mut measured[index];
            side.done += slice.count;
            side.rates.push(slice.per_second());
            side.latencies.extend(slice.latencies);
        }
    }
    Ok(measured)
}

/// The median of values, the lowest and the highest one.
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
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            (at(middle.wrapping_sub(1)) + at(middle)) / 2.0
        };
        Self { median, low: at(0), high: at(values.len().wrapping_sub(1)) }
    }
}

impl SideResult {
    pub fn rate(&self) -> Spread {
        Spread::of(self.rates.iter().copied())
    }

    /// Returns the ratio of this side's rate to that of `baseline`, paired by round.
    pub fn ratio_to(&self, baseline: &Self) -> Spread {
        Spread::of(self.rates.iter().zip(&baseline.rates).map(|(rate, baseline)| rate / baseline))
    }

    /// Returns the latency that `per_mille` of a thousand do not exceed, in milliseconds.
    pub fn percentile_ms(&self, per_mille: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * per_mille).div_ceil(1000).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Returns the side with the highest median rate.
pub fn best<'a>(sides: impl IntoIterator<Item = &'a SideResult>) -> Option<&'a SideResult> {
    sides.into_iter().max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))
}
