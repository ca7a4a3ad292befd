//! The `tracestate` header of W3C Trace Context, level 1, section 3.3.

use serde::{Deserialize, Serialize};

/// Maximum size of a list that is passed on, in bytes: the size that the specification asks every
/// service to pass on.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
/// Maximum number of members of a list.
const MEMBERS_MAX: usize = 32;
/// Minimum size of a large member, in bytes. Large members are removed first from a list that is
/// too long.
const LARGE_MEMBER_BYTES_MIN: usize = 129;
/// Maximum length of a key.
const KEY_LENGTH_MAX: usize = 256;
/// Maximum length of the part of a key before `@`.
const TENANT_LENGTH_MAX: usize = 241;
/// Maximum length of the part of a key after `@`.
const SYSTEM_LENGTH_MAX: usize = 14;
/// Maximum length of a value.
const VALUE_LENGTH_MAX: usize = 256;

/// Data of tracing systems about one trace, for example `congo=t61rcWkgMzE,rojo=00f067aa0ba902b7`.
/// Empty if the caller sent none.
///
/// Services pass it on without reading it. It is valid, has no white space between members, and has
/// at most [`TRACE_STATE_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct TraceState(String);

impl TraceState {
    /// Parses the lines of the header, which are one list. Returns an empty list if a member is
    /// invalid, or if they have more than `MEMBERS_MAX` members.
    ///
    /// If a key is repeated, only its first member, the most recent one, is kept. A list that is
    /// too long is truncated: its large members are removed first, then the others, starting from
    /// the end.
    #[must_use]
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut members: Vec<(&str, &str)> = Vec::new();
        for text in lines.into_iter().flat_map(|line| line.split(',')) {
            // Members may be empty, so that services can join lines without looking at them.
            let text = text.trim_matches([' ', '\t']);
            if text.is_empty() {
                continue;
            }
            let Some((key, value)) = text.split_once('=') else { return Self::default() };
            if !is_key(key) || !is_value(value) || members.len() == MEMBERS_MAX {
                return Self::default();
            }
            if members.iter().all(|(earlier, _)| *earlier != key) {
                members.push((key, value));
            }
        }
        truncate(&mut members);
        let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self(members.join(","))
    }

    /// Returns whether the list has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the list as the value of one header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for TraceState {
    /// Parses a stored list. An invalid one is empty, because no job depends on it.
    fn from(text: String) -> Self {
        Self::parse([text.as_str()])
    }
}

/// Removes members until the list has at most [`TRACE_STATE_BYTES_MAX`] bytes.
fn truncate(members: &mut Vec<(&str, &str)>) {
    let size_of = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    // Each member is followed by a comma, except the last one.
    while members.iter().map(|member| size_of(member) + 1).sum::<usize>()
        > TRACE_STATE_BYTES_MAX + 1
    {
        let large = members.iter().rposition(|member| size_of(member) >= LARGE_MEMBER_BYTES_MIN);
        match large {
            Some(position) => drop(members.remove(position)),
            None => drop(members.pop()),
        }
    }
}

/// Returns whether a key is valid: a name, or a tenant and a system (`fw529a3039@dt`). As in level
/// 2, a name may begin with a digit.
fn is_key(key: &str) -> bool {
    let is_name = |name: &str, length_max: usize| {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_allowed = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/');
        name.len() <= length_max
            && name.bytes().next().is_some_and(is_first)
            && name.bytes().all(is_allowed)
    };
    match key.split_once('@') {
        None => is_name(key, KEY_LENGTH_MAX),
        Some((tenant, system)) => {
            is_name(tenant, TENANT_LENGTH_MAX) && is_name(system, SYSTEM_LENGTH_MAX)
        }
    }
}

/// Returns whether a value is valid: printable ASCII without commas and equals signs, which does
/// not end with a space.
fn is_value(value: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=VALUE_LENGTH_MAX).contains(&value.len())
        && value.bytes().all(is_allowed)
        && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> String {
        TraceState::parse(lines.iter().copied()).as_str().to_owned()
    }

    /// Returns a list of members with keys of three characters, each of the given size.
    fn list(sizes: &[usize]) -> String {
        let member =
            |(number, size): (usize, &usize)| format!("k{number:02}={:x<1$}", "", size - 4);
        sizes.iter().enumerate().map(member).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn lines_are_one_list_without_white_space_and_empty_members() {
        for (lines, expected) in [
            (&[][..], ""),
            (&[""], ""),
            (&[" ,\t, "], ""),
            (&["foo=1"], "foo=1"),
            (&["foo=1,bar=2"], "foo=1,bar=2"),
            (&["foo=1", "bar=2"], "foo=1,bar=2"),
            (&["foo=1,", "", "bar=2"], "foo=1,bar=2"),
            (&["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
            (&["foo=\t1"], ""),
            (&["foo= 1 2"], "foo= 1 2"),
            (&["fw529a3039@dt=FfV6_SlAq:;!~"], "fw529a3039@dt=FfV6_SlAq:;!~"),
            (&["0a_-*/=1"], "0a_-*/=1"),
        ] {
            assert_eq!(parse(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn an_invalid_member_invalidates_the_list() {
        let long_value = format!("foo={}", "x".repeat(257));
        let long_key = format!("{}=1", "k".repeat(257));
        let long_tenant = format!("{}@v=1", "t".repeat(242));
        let long_system = format!("t@{}=1", "v".repeat(15));
        for bad in [
            "foo",
            "=1",
            "foo=",
            "foo= ",
            "FOO=1",
            "foo.bar=1",
            "foo =1",
            "_foo=1",
            "foo=1=2",
            "foo@=1",
            "@foo=1",
            "foo@@bar=1",
            "foo@bar@baz=1",
            "foo=é",
            "foo=\u{7f}",
            "foo=\u{1}",
            &long_value,
            &long_key,
            &long_tenant,
            &long_system,
        ] {
            assert_eq!(parse(&["bar=2", bad]), "", "{bad}");
        }
    }

    #[test]
    fn keys_and_values_have_maximum_lengths() {
        let tenant_and_system = format!("{}@{}", "t".repeat(241), "v".repeat(14));
        for key in ["k".repeat(256), tenant_and_system] {
            let member = format!("{key}={}", "x".repeat(255));
            assert_eq!(parse(&[&member]), member);
        }
        let member = format!("k={}", "x".repeat(256));
        assert_eq!(parse(&[&member]), member);
    }

    #[test]
    fn the_first_member_of_a_repeated_key_is_kept() {
        assert_eq!(parse(&["foo=1,bar=2", "foo=3"]), "foo=1,bar=2");
    }

    #[test]
    fn a_list_has_at_most_32_members() {
        let longest = list(&[5; 32]);
        assert_eq!(parse(&[&longest]), longest);
        assert_eq!(parse(&[&list(&[5; 33])]), "");
    }

    #[test]
    fn a_long_list_loses_large_members_first_and_then_its_last_ones() {
        // Three commas: 128 * 4 + 3 is too long by three bytes.
        let fits = list(&[128, 128, 128, 125]);
        assert_eq!(fits.len(), TRACE_STATE_BYTES_MAX);
        assert_eq!(parse(&[&fits]), fits);
        for (sizes, expected) in [
            (&[128, 128, 128, 126][..], &[0, 1, 2][..]),
            (&[129, 128, 128, 128], &[1, 2, 3]),
            (&[129, 128, 129, 128], &[0, 1, 3]),
            (&[200, 100, 200, 100], &[0, 1, 3]),
            (&[128, 128, 128, 128, 128, 129], &[0, 1, 2]),
        ] {
            let all = list(sizes);
            let members: Vec<&str> = all.split(',').collect();
            let expected: Vec<&str> = expected.iter().map(|index| members[*index]).collect();
            assert_eq!(parse(&[&all]), expected.join(","), "{sizes:?}");
        }
    }

    #[test]
    fn a_stored_list_is_a_string_and_an_invalid_one_is_empty() {
        let state = TraceState::parse(["foo=1"]);
        assert_eq!(serde_json::to_string(&state).unwrap(), r#""foo=1""#);
        assert_eq!(serde_json::from_str::<TraceState>(r#""foo=1""#).unwrap(), state);
        let invalid = serde_json::from_str::<TraceState>(r#""FOO=1""#).unwrap();
        assert!(invalid.is_empty());
    }
}
