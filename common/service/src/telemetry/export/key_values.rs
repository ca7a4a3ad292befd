//! Lists of OpenTelemetry: `key1=value1,key2=value2`, with percent-encoded values.

use percent_encoding::percent_decode_str;

/// Entry of a list: key and decoded value, or, if it is malformed, its position, counted from 1
/// without empty entries.
pub(super) type Entry = Result<(String, String), usize>;

/// Parses a list. White space around keys and values is ignored, as are empty entries.
///
/// A malformed entry has no `=`, no key, or a value that is not UTF-8 after decoding.
pub(super) fn parse(text: &str) -> impl Iterator<Item = Entry> {
    let entries = text.split(',').filter(|entry| !entry.trim().is_empty()).enumerate();
    entries.map(|(index, entry)| parse_entry(entry).ok_or(index + 1))
}

fn parse_entry(entry: &str) -> Option<(String, String)> {
    let (key, value) = entry.split_once('=')?;
    let key = key.trim();
    let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
    (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_trimmed_and_decoded() {
        let text = "api-key=a%20b%3D%2C, authorization = Basic dTpw== ,,empty=,%41=1";
        let entries: Result<Vec<_>, _> = parse(text).collect();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            pair("api-key", "a b=,"),
            pair("authorization", "Basic dTpw=="),
            pair("empty", ""),
            pair("%41", "1"),
        ];
        assert_eq!(entries.unwrap(), expected);
    }

    #[test]
    fn malformed_entries_are_reported_by_position() {
        let entries: Vec<_> = parse("a=1,garbage,=2,b=%ff,c=3").collect();
        let malformed: Vec<_> = entries.into_iter().filter_map(Result::err).collect();
        assert_eq!(malformed, [2, 3, 4]);
    }
}
