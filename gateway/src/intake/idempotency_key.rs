//! Parses the header `Idempotency-Key`.

use axum::http::HeaderMap;

use crate::http::problem::{Code, Problem};

/// Name of the header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Maximum length of a key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// Returns the idempotency key if the client sent one, either plain or as a quoted string of
/// structured fields.
///
/// # Errors
/// `invalid_idempotency_key`.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let key = text.map(str::trim).and_then(|text| match text.strip_prefix('"') {
        Some(rest) => unquote(rest),
        None => Some(text.to_owned()),
    });
    let is_valid = |key: &String| {
        (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let invalid = || {
        let detail = format!(
            "Send one Idempotency-Key of 1 to {KEY_CHARS_MAX} visible ASCII characters, plain or \
             in double quotes."
        );
        Problem::new(Code::InvalidIdempotencyKey, detail)
    };
    key.filter(is_valid).map(Some).ok_or_else(invalid)
}

/// Parses the rest of a quoted string. Returns `None` if the closing quote is missing or is not the
/// last character of the header.
fn unquote(rest: &str) -> Option<String> {
    let mut key = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(key),
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => key.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(values: &[&str]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, value.parse().unwrap());
        }
        read(&headers).map_err(drop)
    }

    #[test]
    fn keys_are_visible_ascii_plain_or_quoted() {
        let long = "k".repeat(255);
        for (header, expected) in [
            ("a", "a"),
            ("\"a\"", "a"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (&long, &long),
        ] {
            assert_eq!(read_all(&[header]), Ok(Some(expected.to_owned())), "{header}");
        }
        assert_eq!(read_all(&[]), Ok(None));
        let longer = "k".repeat(256);
        for bad in ["", "\"", "\"\"", "\"a", "\"a\"b", "\"a\";p=1", r#""\a""#, "a b", "ä", &longer]
        {
            assert!(read_all(&[bad]).is_err(), "{bad}");
        }
        assert!(read_all(&["a", "a"]).is_err());
    }
}
