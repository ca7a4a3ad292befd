//! Charsets of documents, decided by Wordmill and by Chromium.

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::browser::Browser;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

const HTML: &str = "text/html";
const XHTML: &str = "application/xhtml+xml";
const TEXT: &str = "text/plain";

/// French in windows-1252.
const FRENCH: &[u8] = b"<p>caf\xe9 \xe9glise d\xe9j\xe0 pr\xe8s de la rivi\xe8re tr\xe8s \xe9t\xe9";
/// Japanese in ISO-2022-JP.
const JAPANESE: &[u8] = b"\x1b$B?e<V$O@n$N$=$P$K$\"$j$^$9\x1b(B";
/// Russian in KOI8-R.
const RUSSIAN: &[u8] =
    b"<p>\xed\xc5\xcc\xd8\xce\xc9\xc3\xc1 \xd3\xd4\xcf\xc9\xd4 \xd5 \xd2\xc5\xcb\xc9";

/// A document, and its charset by Wordmill and by the browser.
struct Case {
    name: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    ours: &'static str,
    browsers: &'static str,
}

/// Returns a case in which both agree.
fn agreed(
    name: &'static str,
    content_type: &'static str,
    body: &[&[u8]],
    charset: &'static str,
) -> Case {
    Case { name, content_type, body: body.concat(), ours: charset, browsers: charset }
}

fn cases() -> Vec<Case> {
    let script = format!("<script>{}</script>", "a=1;".repeat(500));
    let script = script.as_bytes();
    let long_script = format!("<script>{}</script>", "a=1;".repeat(30_000));
    let long_script = long_script.as_bytes();
    let ascii = "<p>a mill by the river".repeat(4000);
    let ascii = ascii.as_bytes();
    let meta = b"<meta charset=iso-8859-15>".as_slice();
    let koi8 = b"<?xml version='1.0' encoding='koi8-r'?>".as_slice();
    let in_utf_16 = |text: &str, order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    };
    let xml_page = "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'>mill</html>";
    let little = in_utf_16(xml_page, u16::to_le_bytes);
    let big = in_utf_16(xml_page, u16::to_be_bytes);
    let xhtml = b"<html xmlns='http://www.w3.org/1999/xhtml'><p>";
    vec![
        agreed("meta", HTML, &[meta, FRENCH], "iso-8859-15"),
        agreed("late meta", HTML, &[script, meta, FRENCH], "iso-8859-15"),
        agreed("very late meta", HTML, &[long_script, meta, FRENCH], "iso-8859-15"),
        agreed("accent before", HTML, &[b"<title>\xe9</title>", script, meta], "iso-8859-15"),
        agreed("comment", HTML, &[script, b"<!--", meta, b"-->", FRENCH], "windows-1252"),
        agreed(
            "in script",
            HTML,
            &[script, b"<script>'", meta, b"'</script>", FRENCH],
            "windows-1252",
        ),
        agreed("far in body", HTML, &[ascii, meta, FRENCH], "windows-1252"),
        agreed("after ASCII", HTML, &[ascii, FRENCH], "windows-1252"),
        agreed("text after ASCII", TEXT, &[ascii, FRENCH], "windows-1252"),
        agreed("utf-16 in meta", HTML, &[b"<meta charset=utf-16>", b"\xc3\xa9"], "utf-8"),
        agreed("x-user-defined", HTML, &[b"<meta charset=x-user-defined>", FRENCH], "windows-1252"),
        agreed("header", "text/html; charset=x-user-defined", &[FRENCH], "x-user-defined"),
        agreed("BOM", "text/html; charset=koi8-r", &[b"\xef\xbb\xbf\xc3\xa9"], "utf-8"),
        agreed("XML declaration", HTML, &[koi8, RUSSIAN], "koi8-r"),
        agreed("meta in XML", HTML, &[koi8, script, meta, FRENCH], "iso-8859-15"),
        agreed(
            "meta in XHTML",
            XHTML,
            &[koi8, xhtml, b"<meta charset='iso-8859-15'/>\xed</p></html>"],
            "koi8-r",
        ),
        agreed("UTF-16LE", HTML, &[&little], "utf-16le"),
        agreed("UTF-16BE", HTML, &[&big], "utf-16be"),
        agreed("UTF-16LE in XHTML", XHTML, &[&little], "utf-16le"),
        agreed("ISO-2022-JP", TEXT, &[JAPANESE], "iso-2022-jp"),
        // The differences that docs/counting.md lists.
        Case {
            name: "UTF-8",
            content_type: HTML,
            body: "<p>été à l’église".into(),
            ours: "utf-8",
            browsers: "windows-1252",
        },
        Case {
            name: "near in body",
            content_type: HTML,
            body: [&b"<p>a mill".repeat(200), meta, FRENCH].concat(),
            ours: "iso-8859-15",
            browsers: "windows-1252",
        },
        Case {
            name: "in first script",
            content_type: HTML,
            body: [b"<script>'", meta, b"'</script>", FRENCH].concat(),
            ours: "iso-8859-15",
            browsers: "windows-1252",
        },
    ]
}

#[test]
fn charsets_are_those_of_the_browser_except_for_documented_differences() {
    let stack = Stack::start();
    let site = Site::start();
    let browser = Browser::start();
    for Case { name, content_type, body, ours, browsers } in cases() {
        let path = format!("/{}", name.replace(' ', "-"));
        let url = site.put(&path, Page::new(content_type, body));
        let job_id = stack.client().submit(&json!({"url": url}));
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        assert_eq!(job["source"]["charset"], ours, "{name}: {job}");
        browser.open(&url);
        let charset = browser.run_script("return document.characterSet.toLowerCase()", &[]);
        assert_eq!(charset, browsers, "{name} in the browser");
    }
}
