//! Which traces are recorded, as `OTEL_TRACES_SAMPLER` and its argument say.
//!
//! Both are parsed here. What the SDK makes of them is a sampler of the older kind, which records
//! no root at all once anything has attached an invalid context.

use opentelemetry_sdk::trace::{Sampler, ShouldSample};

use crate::env::Env;

/// A decision about new traces, and whether those of others are followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// Whether the decision of whoever began a trace holds.
    follows_parent: bool,
    /// Which part of new traces is recorded, 0 to 1.
    ratio: f64,
}

impl Sampling {
    /// Reads the settings.
    pub(super) fn read(env: &mut Env) -> Self {
        let name = env.text("OTEL_TRACES_SAMPLER", "parentbased_always_on");
        let ratio = env.text("OTEL_TRACES_SAMPLER_ARG", "1");
        Self::parse(&name, &ratio).unwrap_or_else(|reason| {
            env.refuse(reason);
            Self { follows_parent: true, ratio: 1.0 }
        })
    }

    fn parse(name: &str, ratio: &str) -> Result<Self, String> {
        let (follows_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => match ratio.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
                Ok(_) | Err(_) => {
                    return Err(format!("OTEL_TRACES_SAMPLER_ARG={ratio}: not from 0 to 1"));
                }
            },
            _ => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER={name}: none of always_on, always_off, traceidratio, and \
                     the same after parentbased_"
                ));
            }
        };
        Ok(Self { follows_parent, ratio })
    }

    /// Returns the sampler.
    pub(super) fn sampler(self) -> Box<dyn ShouldSample> {
        let root = if self.ratio >= 1.0 {
            Sampler::AlwaysOn
        } else if self.ratio <= 0.0 {
            Sampler::AlwaysOff
        } else {
            Sampler::TraceIdRatioBased(self.ratio)
        };
        if self.follows_parent { Box::new(Sampler::parent_based(root)) } else { Box::new(root) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_opentelemetry() {
        for (name, ratio, follows_parent, expected) in [
            ("always_on", "1", false, 1.0),
            ("always_off", "1", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_always_on", "nonsense", true, 1.0),
            ("parentbased_always_off", "1", true, 0.0),
            ("parentbased_traceidratio", "0.01", true, 0.01),
        ] {
            let sampling = Sampling { follows_parent, ratio: expected };
            assert_eq!(Sampling::parse(name, ratio), Ok(sampling), "{name}");
        }
        for (name, ratio) in
            [("", "1"), ("jaeger_remote", "1"), ("traceidratio", "1.5"), ("traceidratio", "NaN")]
        {
            assert!(Sampling::parse(name, ratio).is_err(), "{name} {ratio}");
        }
    }
}
