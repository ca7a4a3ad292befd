//! Sampling of traces, configured by `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
//!
//! Both variables are parsed here. The SDK would create an older kind of sampler from them, which
//! records no root spans after an invalid context has been attached.

use opentelemetry_sdk::trace::{Sampler, ShouldSample};

use crate::env::Env;

/// Default sampler.
const DEFAULT_SAMPLER: &str = "parentbased_always_on";
/// Prefix of the samplers that follow the decision of the parent.
const PARENT_BASED_PREFIX: &str = "parentbased_";
/// Sampler that records a fraction of new traces. `OTEL_TRACES_SAMPLER_ARG` is the fraction.
const RATIO_SAMPLER: &str = "traceidratio";

/// Sampling decision for new traces, and whether the decision of a parent takes precedence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampling {
    /// Whether the sampling decision of the parent span applies, if there is a parent.
    follows_parent: bool,
    /// Fraction of new traces to record, from 0 to 1.
    ratio: f64,
}

impl Sampling {
    /// Reads the settings. Unsupported values are ignored with a warning, as OpenTelemetry
    /// specifies.
    pub(super) fn read(env: &mut Env) -> Self {
        let name = env.read_or_warn("OTEL_TRACES_SAMPLER", DEFAULT_SAMPLER.to_owned(), |text| {
            let name = text.to_ascii_lowercase();
            let root = name.strip_prefix(PARENT_BASED_PREFIX).unwrap_or(&name);
            if ["always_on", "always_off", RATIO_SAMPLER].contains(&root) {
                return Ok(name);
            }
            Err(format!(
                "must be always_on, always_off or {RATIO_SAMPLER}, with or without the prefix \
                 {PARENT_BASED_PREFIX}"
            ))
        });
        let (follows_parent, root) = match name.strip_prefix(PARENT_BASED_PREFIX) {
            Some(root) => (true, root),
            None => (false, name.as_str()),
        };
        let argument =
            env.read_or_warn("OTEL_TRACES_SAMPLER_ARG", 1.0, |text| match text.parse() {
                // The other samplers have no argument.
                _ if root != RATIO_SAMPLER => Ok(1.0),
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
                Ok(_) | Err(_) => Err("must be a number from 0 to 1".to_owned()),
            });
        Self { follows_parent, ratio: if root == "always_off" { 0.0 } else { argument } }
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
    use crate::env::SettingWarning;

    fn read(name: &str, argument: &str) -> (Sampling, Vec<SettingWarning>) {
        let mut env: Env = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]
            .into_iter()
            .collect();
        let sampling = Sampling::read(&mut env);
        let warnings = env.take_warnings();
        env.finish().unwrap();
        (sampling, warnings)
    }

    #[test]
    fn sampler_names_follow_opentelemetry() {
        for (name, argument, follows_parent, ratio) in [
            ("", "", true, 1.0),
            ("always_on", "1", false, 1.0),
            ("always_off", "1", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_always_on", "nonsense", true, 1.0),
            ("parentbased_always_off", "1", true, 0.0),
            ("ParentBased_TraceIdRatio", "0.01", true, 0.01),
            ("parentbased_traceidratio", "", true, 1.0),
        ] {
            let expected = (Sampling { follows_parent, ratio }, Vec::new());
            assert_eq!(read(name, argument), expected, "{name}");
        }
    }

    #[test]
    fn unsupported_samplers_are_ignored_with_a_warning() {
        let default = Sampling { follows_parent: true, ratio: 1.0 };
        for (name, argument, expected, variable) in [
            ("parentbased_jaeger_remote", "http://agent", default, "OTEL_TRACES_SAMPLER"),
            ("xray", "1", default, "OTEL_TRACES_SAMPLER"),
            ("parentbased_traceidratio", "1.5", default, "OTEL_TRACES_SAMPLER_ARG"),
            ("parentbased_traceidratio", "NaN", default, "OTEL_TRACES_SAMPLER_ARG"),
            (
                "traceidratio",
                "half",
                Sampling { follows_parent: false, ratio: 1.0 },
                "OTEL_TRACES_SAMPLER_ARG",
            ),
        ] {
            let (sampling, warnings) = read(name, argument);
            assert_eq!(sampling, expected, "{name} {argument}");
            let variables: Vec<_> = warnings.iter().map(|one| one.variable).collect();
            assert_eq!(variables, [variable], "{name} {argument}");
        }
    }
}
