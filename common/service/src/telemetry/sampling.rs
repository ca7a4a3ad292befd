//! Sampling of traces, configured by `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
//!
//! Both variables are parsed here. The SDK would create an older kind of sampler from them, which
//! records no root spans after an invalid context has been attached.

use opentelemetry_sdk::trace::{Sampler, ShouldSample};

use crate::env::Env;

/// Sampling decision for new traces, and whether the decision of a parent takes precedence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// Whether the sampling decision of the parent span applies, if there is a parent.
    follows_parent: bool,
    /// Fraction of new traces to record, from 0 to 1.
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
                    return Err(format!(
                        "OTEL_TRACES_SAMPLER_ARG={ratio}: must be a number from 0 to 1"
                    ));
                }
            },
            _ => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER={name}: must be always_on, always_off or traceidratio, \
                     with or without the prefix parentbased_"
                ));
            }
        };
        Ok(Self { follows_parent, ratio })
    }

    /// Creates the sampler.
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
    fn sampler_names_follow_opentelemetry() {
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
