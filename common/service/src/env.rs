//! Settings from environment variables. All are read at the start, and all errors are reported
//! together.

mod secret_file;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use wordmill_common::secret::Secret;

/// Exit code for invalid settings (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Maximum length of a value in a [`SettingWarning`], in characters.
const WARNING_VALUE_CHARS_MAX: usize = 200;

/// Number of bytes, written as `512`, `64KiB`, `5MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit =
            units.into_iter().find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((factor, name)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Duration, written as `250ms`, `30s`, `5m`, `12h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DisplayDuration(pub Duration);

impl fmt::Display for DisplayDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        let unit = units.into_iter().find(|(factor, _)| ms > 0 && ms.is_multiple_of(*factor));
        match unit {
            Some((factor, name)) => write!(f, "{}{name}", ms / factor),
            None => write!(f, "{ms}ms"),
        }
    }
}

/// Error messages of all invalid settings, displayed one per line.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidSettings(Vec<String>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for InvalidSettings {}

/// Warning about a variable of OpenTelemetry whose value is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingWarning {
    /// Name of the variable.
    pub variable: &'static str,
    /// Its value, without secrets and at most `WARNING_VALUE_CHARS_MAX` characters long.
    pub value: String,
    /// Reason why the value is not used, and the behavior instead.
    pub reason: String,
}

/// The environment variables, with a record of the settings that were read, of the errors and of
/// the warnings.
///
/// Invalid settings of Wordmill (`WORDMILL_*`) are errors. Variables of OpenTelemetry (`OTEL_*`)
/// often apply to all programs of a machine, and its specification demands that a program warns
/// about values that it does not support, and ignores them. Such settings are read by the methods
/// that end in `_or_warn`.
#[derive(Debug, Default)]
pub struct Env {
    values: BTreeMap<String, String>,
    settings: Vec<(String, String)>,
    errors: Vec<String>,
    warnings: Vec<SettingWarning>,
}

impl Env {
    /// Reads the environment of this process. Variables that are not UTF-8 are ignored.
    #[must_use]
    pub fn from_process() -> Self {
        let text = |os: std::ffi::OsString| os.into_string().ok();
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
    }

    /// Reads a setting. Returns `default` if it is absent, empty or invalid; [`Env::finish`]
    /// reports the error of an invalid one.
    pub fn read<T: fmt::Display>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match self.parse(name, &default, parse) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err((text, reason))) => {
                // Continue with the default, so that the errors of all settings are found in one
                // run.
                self.errors.push(format!("{name}={text}: {reason}"));
                default
            }
        }
    }

    /// Reads a setting of OpenTelemetry. Returns `default` if it is absent, empty or not supported;
    /// [`Env::take_warnings`] returns the warning about a value that is not supported.
    pub fn read_or_warn<T: fmt::Display>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match self.parse(name, &default, parse) {
            None => default,
            Some(Ok(value)) => value,
            Some(Err((text, reason))) => {
                self.warn(name, &text, format!("{reason}; using {default}"));
                default
            }
        }
    }

    /// Parses the value of a setting; returns `None` if it is not set. An error is the value and
    /// the reason.
    fn parse<T: fmt::Display>(
        &mut self,
        name: &'static str,
        default: &T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Result<T, (String, String)>> {
        // Recorded for `check_table`, which compares names and defaults with the documentation.
        self.settings.push((name.to_owned(), default.to_string()));
        let text = self.value(name)?;
        Some(parse(text).map_err(|reason| (text.to_owned(), reason)))
    }

    /// Reads a text setting.
    pub fn text(&mut self, name: &'static str, default: &str) -> String {
        self.read(name, default.to_owned(), |text| Ok(text.to_owned()))
    }

    /// Reads the path of a file; `None` if it is not set.
    pub fn file(&mut self, name: &'static str) -> Option<PathBuf> {
        let path = self.text(name, "");
        (!path.is_empty()).then(|| path.into())
    }

    /// Reads a boolean: `true` or `false`.
    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.read(name, default, |text| {
            text.parse().map_err(|_| "must be true or false".to_owned())
        })
    }

    /// Reads a boolean of OpenTelemetry: `true` or `false` in any case. Other values are false, as
    /// OpenTelemetry specifies, and cause a warning.
    pub fn flag_or_warn(&mut self, name: &'static str) -> bool {
        self.read_or_warn(name, false, |text| {
            text.to_ascii_lowercase().parse().map_err(|_| "must be true or false".to_owned())
        })
    }

    /// Reads an integer of OpenTelemetry from `min` to `max`.
    pub fn number_or_warn(&mut self, name: &'static str, default: u32, min: u32, max: u32) -> u32 {
        self.read_or_warn(name, default, parse_number(min, max))
    }

    /// Reads a secret from the variable `name`, or from the file that the variable `<name>_FILE`
    /// names. The file is read once: a changed secret needs a restart. The secret never appears in
    /// an error message.
    pub fn secret(&mut self, name: &'static str) -> Secret {
        let file_name = format!("{name}_FILE");
        self.settings.push((name.to_owned(), String::new()));
        self.settings.push((file_name.clone(), String::new()));
        let secret = match (self.value(name), self.value(&file_name)) {
            (Some(_), Some(_)) => {
                Err(format!("{name} and {file_name} are both set: set only one of them"))
            }
            (Some(secret), None) => Ok(Secret::new(secret.to_owned())),
            (None, Some(path)) => secret_file::read(Path::new(path))
                .map_err(|reason| format!("{file_name}={path}: {reason}")),
            (None, None) => Ok(Secret::default()),
        };
        secret.unwrap_or_else(|error| {
            self.errors.push(error);
            Secret::default()
        })
    }

    /// Reads an address to listen on.
    pub fn address(&mut self, name: &'static str, default: SocketAddr) -> SocketAddr {
        self.read(name, default, |text| {
            text.parse().map_err(|_| "must be an address such as 127.0.0.1:8080".to_owned())
        })
    }

    /// Reads an integer from `min` to `max`.
    pub fn number(&mut self, name: &'static str, default: u32, min: u32, max: u32) -> u32 {
        self.read(name, default, parse_number(min, max))
    }

    /// Reads a duration from `min` to `max`.
    pub fn duration(
        &mut self,
        name: &'static str,
        default: Duration,
        min: Duration,
        max: Duration,
    ) -> Duration {
        let bounds =
            format!("must be between {} and {}", DisplayDuration(min), DisplayDuration(max));
        let read = self.read(name, DisplayDuration(default), |text| match parse_duration(text) {
            Some(span) if (min..=max).contains(&span) => Ok(DisplayDuration(span)),
            Some(_) => Err(bounds),
            None => Err("must be a duration such as 250ms, 30s, 5m, 12h or 7d".to_owned()),
        });
        read.0
    }

    /// Reads a size in bytes from `min` to `max`.
    pub fn size(
        &mut self,
        name: &'static str,
        default: ByteSize,
        min: ByteSize,
        max: ByteSize,
    ) -> u64 {
        let bounds = format!("must be between {min} and {max}");
        let read = self.read(name, default, |text| match parse_size(text).map(ByteSize) {
            Some(size) if (min..=max).contains(&size) => Ok(size),
            Some(_) => Err(bounds),
            None => Err("must be a size such as 512, 64KiB, 5MiB or 1GiB".to_owned()),
        });
        read.0
    }

    /// Adds an error, for example about valid settings that contradict each other.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.errors.push(reason.into());
    }

    /// Adds a warning about a variable of OpenTelemetry. The value must not contain a secret,
    /// except in the places of a URL that [`redact_url`] removes.
    pub fn warn(&mut self, variable: &'static str, value: &str, reason: impl Into<String>) {
        let value = redact_url(value).chars().take(WARNING_VALUE_CHARS_MAX).collect();
        self.warnings.push(SettingWarning { variable, value, reason: reason.into() });
    }

    /// Removes and returns the warnings. The caller logs them after it has started the log.
    pub fn take_warnings(&mut self) -> Vec<SettingWarning> {
        std::mem::take(&mut self.warnings)
    }

    /// Returns the value of a variable; `None` if it is absent or empty.
    fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Compares the settings that were read with the rows for `service` of a Markdown table
    /// `| names | used by | default | ...`, where names are separated by commas. A test uses it to
    /// keep `docs/settings.md` complete.
    ///
    /// # Errors
    /// A message about the first setting that is undocumented, not read, or documented with another
    /// default.
    pub fn check_table(&self, table: &str, service: &str) -> Result<(), String> {
        let mut documented = BTreeMap::new();
        let is_setting =
            |line: &&str| ["| `WORDMILL_", "| `OTEL_"].iter().any(|p| line.starts_with(p));
        for line in table.lines().filter(is_setting) {
            let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
            let names = cells.next().unwrap_or("");
            let used_by = cells.next().unwrap_or("");
            let default = cells.next().unwrap_or("");
            if used_by.split(", ").any(|name| name == service) {
                documented.extend(names.split("`, `").map(|name| (name, default)));
            }
        }
        for (name, default) in &self.settings {
            match documented.remove(name.as_str()) {
                None => return Err(format!("{name} is not documented for {service}")),
                // The default is described in words if it depends on the service or the machine.
                Some("") => {}
                Some(documented) if documented == default => {}
                Some(documented) => {
                    return Err(format!(
                        "the default of {name} is {default}, but the table contains {documented}"
                    ));
                }
            }
        }
        match documented.keys().next() {
            Some(name) => Err(format!("{service} does not read {name}")),
            None => Ok(()),
        }
    }

    /// Finishes the reading of settings.
    ///
    /// # Errors
    /// [`InvalidSettings`] with the errors of all invalid settings. A variable that no setting uses
    /// is not an error, because the services share one environment.
    pub fn finish(self) -> Result<(), InvalidSettings> {
        if self.errors.is_empty() { Ok(()) } else { Err(InvalidSettings(self.errors)) }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { values, ..Self::default() }
    }
}

/// Reads the settings of a program from the environment of this process.
///
/// # Errors
/// The exit code of [`print_invalid_settings`].
pub fn read_settings<T>(program: &str, read: impl FnOnce(&mut Env) -> T) -> Result<T, ExitCode> {
    let mut env = Env::from_process();
    let settings = read(&mut env);
    env.finish().map_err(|invalid| print_invalid_settings(program, &invalid))?;
    Ok(settings)
}

/// Prints invalid settings to standard error, because the log is not started yet. Returns the exit
/// code for them.
#[expect(clippy::print_stderr, reason = "the log is not started yet")]
#[must_use]
pub fn print_invalid_settings(program: &str, invalid: &impl fmt::Display) -> ExitCode {
    eprintln!("{program}: invalid settings:\n{invalid}");
    EXIT_USAGE.into()
}

/// Returns a URL for the log: without credentials, query and fragment, where secrets may be. The
/// text need not be a valid URL.
#[must_use]
pub fn redact_url(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    format!("{scheme}{}", rest.get(..end).unwrap_or(""))
}

fn parse_number(min: u32, max: u32) -> impl FnOnce(&str) -> Result<u32, String> {
    move |text| match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("must be a whole number from {min} to {max}")),
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let factor_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(factor_ms).map(Duration::from_millis)
}

fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_reported_together() {
        let mut env: Env =
            [("A", "soon"), ("B", "70000"), ("C", "5 parsecs")].into_iter().collect();
        let day = Duration::from_secs(86_400);
        assert_eq!(env.duration("A", day, Duration::ZERO, day), day);
        assert_eq!(env.number("B", 1, 0, 65_535), 1);
        assert_eq!(env.size("C", ByteSize(1), ByteSize(0), ByteSize(9)), 1);
        let report = env.finish().unwrap_err().to_string();
        for name in ["A=soon", "B=70000", "C=5 parsecs"] {
            assert!(report.contains(name), "{report}");
        }
    }

    #[test]
    fn unsupported_values_of_opentelemetry_are_warnings() {
        let mut env: Env = [("A", "TRUE"), ("B", "yes"), ("C", "abc"), ("D", "http://u:pw@h/?t=1")]
            .into_iter()
            .collect();
        assert!(env.flag_or_warn("A"));
        assert!(!env.flag_or_warn("B"));
        assert_eq!(env.number_or_warn("C", 7, 1, 9), 7);
        assert_eq!(env.read_or_warn("D", 1, |_| Err("wrong".to_owned())), 1);
        let warnings = env.take_warnings();
        let shown = warnings.iter().map(|one| (one.variable, one.value.as_str()));
        let shown: Vec<_> = shown.collect();
        assert_eq!(shown, [("B", "yes"), ("C", "abc"), ("D", "http://h/")]);
        assert_eq!(warnings[1].reason, "must be a whole number from 1 to 9; using 7");
        env.finish().unwrap();
    }

    #[test]
    fn urls_are_shown_without_credentials_and_query() {
        for (text, shown) in [
            ("https://user:pa@ss@host:4318/v1?token=a#b", "https://host:4318/v1"),
            ("user:pass@host", "host"),
            ("http://[::1]:4318", "http://[::1]:4318"),
            ("host?token=a", "host"),
            ("garbage", "garbage"),
        ] {
            assert_eq!(redact_url(text), shown);
        }
    }

    #[test]
    fn a_secret_is_read_from_its_variable_or_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2\n").unwrap();
        let path = path.to_str().unwrap();
        for settings in [
            vec![("S", "hunter2")],
            vec![("S", "hunter2"), ("S_FILE", "")],
            vec![("S_FILE", path)],
            vec![("S_FILE", path), ("S", "")],
        ] {
            let mut env: Env = settings.iter().copied().collect();
            assert_eq!(env.secret("S").expose(), "hunter2", "{settings:?}");
            env.finish().unwrap();
        }
        assert_eq!(Env::default().secret("S"), Secret::default());
    }

    #[test]
    fn errors_of_secrets_name_the_variables_but_not_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "hunter2\n").unwrap();
        let path = path.to_str().unwrap();
        let settings = [("S", "hunter3"), ("S_FILE", path), ("T_FILE", "/missing/secret")];
        let mut env: Env = settings.into_iter().collect();
        assert_eq!(env.secret("S"), Secret::default());
        assert_eq!(env.secret("T"), Secret::default());
        let report = env.finish().unwrap_err().to_string();
        assert!(report.contains("S and S_FILE are both set"), "{report}");
        assert!(report.contains("T_FILE=/missing/secret: cannot read the file"), "{report}");
        assert!(!report.contains("hunter"), "{report}");
    }

    #[test]
    fn a_row_of_the_table_may_have_several_names() {
        let mut env = Env::default();
        env.secret("WORDMILL_S");
        let row = "| `WORDMILL_S`, `WORDMILL_S_FILE` | gateway | | a secret |";
        env.check_table(row, "gateway").unwrap();
        let error = env.check_table("| `WORDMILL_S` | gateway | | a secret |", "gateway");
        assert_eq!(error.unwrap_err(), "WORDMILL_S_FILE is not documented for gateway");
    }

    #[test]
    fn durations_and_sizes_round_trip() {
        for text in ["250ms", "30s", "5m", "12h", "7d"] {
            assert_eq!(DisplayDuration(parse_duration(text).unwrap()).to_string(), text);
        }
        for text in ["513", "64KiB", "5MiB", "1GiB"] {
            assert_eq!(ByteSize(parse_size(text).unwrap()).to_string(), text);
        }
        assert_eq!(parse_duration("99999999999999999999d"), None);
        assert_eq!(parse_size("5 XiB"), None);
        assert_eq!(parse_size("ä"), None);
    }
}
