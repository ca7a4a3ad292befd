//! Measures several variants of the same work, for example Wordmill and its baseline. They run
//! slices of the work in turns, so that other load and the speed of the machine affect all of them
//! alike. Ratios are computed within one round.

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

/// One variant of the measured work.
pub struct Variant<'a> {
    pub name: String,
    run: Box<dyn Fn() -> LocalBoxFuture<'a, Result<Slice>> + 'a>,
}

impl<'a> Variant<'a> {
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

/// Minimum number of rounds. Fewer would not show the spread.
const ROUNDS_MIN: usize = 3;

/// The results of one variant, round by round.
pub struct VariantResult {
    pub name: String,
    /// The number of jobs or requests, including the warm-up round.
    pub done: usize,
    pub rates: Vec<f64>,
    pub latencies: Vec<Duration>,
}

/// Runs the variants in turns. Each round starts with another variant. A warm-up round precedes the
/// measurement.
pub async fn run_in_turns(variants: &[Variant<'_>], bounds: Bounds) -> Result<Vec<VariantResult>> {
    let empty = |variant: &Variant<'_>| VariantResult {
        name: variant.name.clone(),
        done: 0,
        rates: Vec::new(),
        latencies: Vec::new(),
    };
    let mut measured: Vec<VariantResult> = variants.iter().map(empty).collect();
    for (variant, measured) in variants.iter().zip(&mut measured) {
        measured.done += (variant.run)().await?.count;
    }
    let end = Instant::now() + Duration::from_secs(bounds.seconds);
    for round in 0..bounds.rounds {
        if round >= ROUNDS_MIN && Instant::now() > end {
            break;
        }
        for turn in 0..variants.len() {
            let index = (round + turn) % variants.len();
            let slice = (variants[index].run)().await?;
            let variant = &mut measured[index];
            variant.done += slice.count;
            variant.rates.push(slice.per_second());
            variant.latencies.extend(slice.latencies);
        }
    }
    Ok(measured)
}

/// Median, minimum and maximum of some values.
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

impl VariantResult {
    pub fn rate(&self) -> Spread {
        Spread::of(self.rates.iter().copied())
    }

    /// Returns the ratio of this variant's rate to the rate of `baseline`, paired by round.
    pub fn ratio_to(&self, baseline: &Self) -> Spread {
        Spread::of(self.rates.iter().zip(&baseline.rates).map(|(rate, baseline)| rate / baseline))
    }

    /// Returns a percentile of the latencies, in milliseconds: `per_mille` 990 is the 99th
    /// percentile.
    pub fn percentile_ms(&self, per_mille: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * per_mille).div_ceil(1000).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Returns the variant with the highest median rate.
pub fn best<'a>(
    variants: impl IntoIterator<Item = &'a VariantResult>,
) -> Option<&'a VariantResult> {
    variants.into_iter().max_by(|a, b| a.rate().median.total_cmp(&b.rate().median))
}
