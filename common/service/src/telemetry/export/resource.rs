//! The resource: attributes of this process, which a collector receives with its spans.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;

use super::key_values;
use crate::env::Env;

/// Attribute with the name of the service.
const SERVICE_NAME: &str = "service.name";

/// Settings of the resource.
#[derive(Debug, Clone)]
pub(super) struct ResourceSettings {
    /// Name of the service.
    service: String,
    /// Attributes that the operator has set. They override those of the process.
    attributes: Vec<(String, String)>,
}

impl ResourceSettings {
    /// Reads the settings. `service` is the default name of the service.
    pub(super) fn read(env: &mut Env, service: &'static str) -> Self {
        let name = env.text("OTEL_SERVICE_NAME", "");
        let attributes = read_attributes(env);
        // `OTEL_SERVICE_NAME` takes precedence over `service.name` in the list.
        let listed = attributes.iter().rev().find(|(key, _)| key == SERVICE_NAME);
        let service = match listed {
            _ if !name.is_empty() => name,
            Some((_, listed)) => listed.clone(),
            None => service.to_owned(),
        };
        Self { service, attributes }
    }

    /// Creates the resource of this process. `instance` distinguishes it from others of the same
    /// service.
    pub(super) fn build(&self, instance: &str) -> Resource {
        let host = rustix::system::uname();
        let process_attributes = [
            KeyValue::new("service.namespace", "wordmill"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
            KeyValue::new("host.name", host.nodename().to_string_lossy().into_owned()),
        ];
        let attributes = self.attributes.iter().cloned();
        Resource::builder_empty()
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_attributes(process_attributes)
            .with_attributes(attributes.map(|(key, value)| KeyValue::new(key, value)))
            .with_service_name(self.service.clone())
            .build()
    }
}

/// Reads the attributes of the operator. A list with a malformed entry is ignored as a whole, as
/// OpenTelemetry specifies.
fn read_attributes(env: &mut Env) -> Vec<(String, String)> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let text = env.text(NAME, "");
    let entries: Result<Vec<_>, _> = key_values::parse(&text).collect();
    entries.unwrap_or_else(|position| {
        env.warn(NAME, &text, format!("entry {position} is not key=value; ignoring all entries"));
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;

    fn value(settings: &[(&str, &str)], key: &str) -> Option<String> {
        let mut env: Env = settings.iter().copied().collect();
        let resource = ResourceSettings::read(&mut env, "wordmill-gateway").build("one");
        resource.get(&Key::new(key.to_owned())).map(|value| value.to_string())
    }

    #[test]
    fn the_name_of_the_service_has_three_sources() {
        let name = ("OTEL_SERVICE_NAME", "named");
        let list = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed");
        for (settings, expected) in [
            (&[][..], "wordmill-gateway"),
            (&[list], "listed"),
            (&[name], "named"),
            (&[list, name], "named"),
        ] {
            assert_eq!(value(settings, SERVICE_NAME).as_deref(), Some(expected), "{settings:?}");
        }
    }

    #[test]
    fn attributes_of_the_operator_override_those_of_the_process() {
        let list = [("OTEL_RESOURCE_ATTRIBUTES", "host.name=a%20b,k8s.pod.name=pod")];
        assert_eq!(value(&list, "host.name").as_deref(), Some("a b"));
        assert_eq!(value(&list, "k8s.pod.name").as_deref(), Some("pod"));
        assert_eq!(value(&list, "service.namespace").as_deref(), Some("wordmill"));
        assert_eq!(value(&list, "telemetry.sdk.language").as_deref(), Some("rust"));
    }

    #[test]
    fn malformed_attributes_are_ignored_with_a_warning() {
        let mut env: Env =
            [("OTEL_RESOURCE_ATTRIBUTES", "host.name=a,garbage")].into_iter().collect();
        assert_eq!(read_attributes(&mut env), []);
        let [warning] = &env.take_warnings()[..] else { panic!("not one warning") };
        assert_eq!(warning.reason, "entry 2 is not key=value; ignoring all entries");
    }
}
