//! Content of a page that is not counted: its sizes, and the warnings about it.

use std::collections::BTreeMap;

use wordmill_common::warning::{WarningCode, Warnings};

/// Maximum number of words of a page that counts as a page of scripts alone. Such a page may have a
/// few words for the time until its scripts have run, for example "Loading, please wait".
const SCRIPT_PAGE_WORDS_MAX: u64 = 10;

/// Reason why text of a page is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropReason {
    /// Content of `script`.
    Scripts,
    /// Content of `style`.
    Styles,
    /// Content of `template`.
    Templates,
    /// Content of an element with the attribute `hidden`, or with `display: none` in `style`.
    Hidden,
    /// Text that is shown elsewhere or only in some cases: titles, form fields, and fallback
    /// content of media and scripts.
    Replaced,
}

impl DropReason {
    const ALL: [Self; 5] =
        [Self::Scripts, Self::Styles, Self::Templates, Self::Hidden, Self::Replaced];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Styles => "styles",
            Self::Templates => "templates",
            Self::Hidden => "hidden",
            Self::Replaced => "replaced",
        }
    }
}

/// Sums of the content of a page that is not counted. Like a count, they do not depend on the
/// chunks in which the page arrives.
#[derive(Clone, Debug, Default)]
pub(super) struct Omissions {
    /// Size of the dropped text by reason, in bytes of UTF-8.
    bytes: [u64; DropReason::ALL.len()],
    /// Number of characters of hidden text, without white space. Unlike bytes, it can be compared
    /// with the totals, and is 0 for an element that only groups other elements.
    hidden_characters: u64,
    /// Number of `script` elements. Their size is not used, because most are in other files.
    scripts: u64,
}

impl Omissions {
    /// Adds a piece of dropped text.
    pub(super) fn add_text(&mut self, reason: DropReason, text: &str) {
        if let Some(bytes) = self.bytes.get_mut(reason as usize) {
            *bytes = bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        }
        if reason == DropReason::Hidden {
            let characters = text.chars().filter(|c| !c.is_whitespace()).count();
            let characters = u64::try_from(characters).unwrap_or(u64::MAX);
            self.hidden_characters = self.hidden_characters.saturating_add(characters);
        }
    }

    /// Adds a number of characters of hidden text, without white space.
    pub(super) const fn add_hidden_characters(&mut self, characters: u64) {
        self.hidden_characters = self.hidden_characters.saturating_add(characters);
    }

    /// Adds a number of `script` elements.
    pub(super) const fn add_scripts(&mut self, scripts: u64) {
        self.scripts = self.scripts.saturating_add(scripts);
    }

    /// Returns the size of the dropped text in bytes, by the name of the reason.
    pub(super) fn bytes_by_reason(&self) -> BTreeMap<String, u64> {
        let sums = DropReason::ALL.iter().zip(self.bytes).filter(|(_, bytes)| *bytes > 0);
        sums.map(|(reason, bytes)| (reason.as_str().to_owned(), bytes)).collect()
    }

    /// Adds the warnings about a page with this number of words by the rule `unicode`.
    pub(super) fn warn(&self, page_words: u64, warnings: &mut Warnings) {
        if page_words <= SCRIPT_PAGE_WORDS_MAX {
            warnings.add(WarningCode::ScriptOnlyPage, self.scripts, None);
        }
        warnings.add(WarningCode::HiddenTextPresent, self.hidden_characters, None);
    }
}

#[cfg(test)]
mod tests {
    use wordmill_common::{options, warning::Warning};

    use crate::{Hints, Options, count};

    fn warnings_with(document: &[u8], content_type: &str, options: &str) -> String {
        let hints = Hints { content_type: Some(content_type), host_tld: None };
        let options: options::Options = serde_json::from_str(options).unwrap();
        let counted = count(document, &hints, &Options::from(options), &|_| true).unwrap();
        let format = |Warning { code, count, location }: &Warning| match location {
            Some(location) => format!("{} {count} {location}", code.as_str()),
            None => format!("{} {count}", code.as_str()),
        };
        counted.warnings.iter().map(format).collect::<Vec<_>>().join(", ")
    }

    /// Returns the warnings of a page in UTF-8, as `code count location, code count`.
    fn warnings(page: &str) -> String {
        warnings_with(page.as_bytes(), "text/html; charset=utf-8", "{}")
    }

    #[test]
    fn an_ordinary_page_has_no_warnings() {
        let page = "<title>Mill</title><style>p {}</style><template><p>x</template>\
                    <p>The mill by the river bakes fresh bread on every morning.<script>f()</script>";
        assert_eq!(warnings(page), "");
    }

    #[test]
    fn a_document_without_words_has_a_warning() {
        for page in ["", "<title>Mill</title>", "<p>&mdash; …</p>", "<img alt=mill>"] {
            assert_eq!(warnings(page), "no_text_found 1", "{page}");
        }
        for text in ["", " \n", "— …"] {
            let found = warnings_with(text.as_bytes(), "text/plain; charset=utf-8", "{}");
            assert_eq!(found, "no_text_found 1", "{text}");
        }
    }

    #[test]
    fn a_page_with_words_only_outside_its_main_content_has_a_warning() {
        let page = b"<nav>Home</nav><main><img></main>";
        let found = |options| warnings_with(page, "text/html; charset=utf-8", options);
        assert_eq!(found(r#"{"scope": "main"}"#), "no_text_found 1 main");
        assert_eq!(found("{}"), "");
    }

    #[test]
    fn options_that_exclude_all_words_cause_a_warning() {
        let found = |options| warnings_with(b"7 mills", "text/plain; charset=utf-8", options);
        for options in [
            r#"{"min_len": 9}"#,
            r#"{"numbers": "skip", "stop_words": ["mills"]}"#,
            r#"{"rule": "whitespace", "min_len": 9}"#,
        ] {
            assert_eq!(found(options), "no_text_found 1 options", "{options}");
        }
        assert_eq!(found(r#"{"numbers": "skip"}"#), "");
    }

    #[test]
    fn a_page_of_scripts_with_few_words_has_a_warning() {
        for (page, expected) in [
            ("<script src=a.js></script>", "no_text_found 1, script_only_page 1"),
            ("<script>f()</script><p>Loading<script>g()</script>", "script_only_page 2"),
            ("<p>1 2 3 4 5 6 7 8 9 10<script>f()</script>", "script_only_page 1"),
            ("<p>1 2 3 4 5 6 7 8 9 10 11<script>f()</script>", ""),
            ("<p>Loading", ""),
        ] {
            assert_eq!(warnings(page), expected, "{page}");
        }
    }

    #[test]
    fn a_script_page_is_recognized_in_any_scope_and_by_any_rule() {
        let page = b"<nav>Home</nav><script>f()</script>";
        for options in [r#"{"scope": "main"}"#, r#"{"rule": "gmx"}"#, r#"{"stop_words": ["home"]}"#]
        {
            let found = warnings_with(page, "text/html; charset=utf-8", options);
            assert!(found.ends_with("script_only_page 1"), "{options}: {found}");
        }
    }

    #[test]
    fn characters_of_hidden_text_are_counted_without_white_space() {
        for (page, expected) in [
            ("a<p hidden>two\u{a0}w\u{f6}rds \n</p>", "hidden_text_present 8"),
            ("a<p hidden>b<i>c</i></p><p style='display: none'>d</p>", "hidden_text_present 3"),
            ("a<p hidden></p><p hidden> \n\u{a0} </p>", ""),
        ] {
            assert_eq!(warnings(page), expected, "{page}");
        }
    }

    #[test]
    fn a_guessed_charset_is_named() {
        let koi8 = b"\xed\xc5\xcc\xd8\xce\xc9\xc3\xc1 \xd5 \xd2\xc5\xcb\xc9 \
                       \xcd\xc5\xcc\xc5\xd4 \xda\xc5\xd2\xce\xcf";
        assert_eq!(warnings_with(koi8, "text/plain", "{}"), "charset_guessed 1 koi8-u");
        assert_eq!(warnings_with(koi8, "text/plain; charset=koi8-r", "{}"), "");
        assert_eq!(warnings_with(b"plain ASCII", "text/plain", "{}"), "");
    }

    #[test]
    fn detected_utf_8_causes_no_warning() {
        assert_eq!(warnings_with("l’été".as_bytes(), "text/plain", "{}"), "");
    }
}
