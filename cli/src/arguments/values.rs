//! Parsers of argument values. Their errors are printed by clap, after the name of the argument.

use std::time::Duration;

use url::Url;

/// Parses the base URL of a server.
pub(super) fn parse_server_url(text: &str) -> Result<Url, String> {
    let url: Url = text
        .parse()
        .map_err(|error| format!("{error}; expected a URL such as http://host:port"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL must not contain a user name or password; use --key-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the URL must not contain a query (?) or a fragment (#)".to_owned());
    }
    Ok(url)
}

/// Parses a duration in the format of the service's settings: `250ms`, `30s`, `5m`, `12h`, `7d`. A
/// number without a unit is in seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let invalid = || "expected a duration such as 30s, 5m or 12h".to_owned();
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let duration_ms = number.checked_mul(unit_ms).ok_or("the duration is too long")?;
    Ok(Duration::from_millis(duration_ms))
}

/// Parses `NAME=VALUE`.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Validates a content type, which is written into a header line of a multipart form.
pub(super) fn parse_content_type(text: &str) -> Result<String, String> {
    let is_visible = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if !is_visible || !text.contains('/') || text.len() > 255 {
        return Err("expected a content type such as text/plain".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_settings() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("90", 90_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1.5s", "-1s", "1w", "1 s", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration(&format!("{}d", u64::MAX)).is_err());
    }

    #[test]
    fn server_urls_have_no_credentials_or_query() {
        for text in ["http://127.0.0.1:8080", "https://a.example/words/"] {
            assert!(parse_server_url(text).is_ok(), "{text}");
        }
        for text in ["127.0.0.1:8080", "ftp://a", "http://", "http://u:p@a", "http://a/?x", "a#b"] {
            assert!(parse_server_url(text).is_err(), "{text}");
        }
    }
}
