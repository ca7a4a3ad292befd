use std::io::{self, Read};

use encoding_rs::WINDOWS_1251;
use wordmill_common::warning::WarningCode;

use super::*;
use crate::{DocumentCount, Error, Options, count};

const HTML: &str = "text/html";
const XHTML: &str = "application/xhtml+xml";
const TEXT: &str = "text/plain";

/// French in windows-1252 and ISO-8859-15, which differ in the last letter.
const FRENCH: &[u8] = b"<p>caf\xe9 \xe9glise d\xe9j\xe0 pr\xe8s de la rivi\xe8re \xe9t\xe9 \xbd";
const RUSSIAN: &str = "Мельница стоит у реки";
const JAPANESE: &[u8] = b"\x1b$B?e<V$O@n$N$=$P$K$\"$j$^$9\x1b(B";

fn count_document(bytes: &[u8], content_type: &str) -> DocumentCount {
    let hints = Hints { content_type: Some(content_type), host_tld: None };
    count(bytes, &hints, &Options::default(), &|_| true).unwrap()
}

/// Returns the charset of a document and its source.
fn charset_of(bytes: &[u8], content_type: &str) -> (String, CharsetSource) {
    let counted = count_document(bytes, content_type);
    (counted.charset, counted.charset_from)
}

fn assert_charset(bytes: &[u8], content_type: &str, name: &str, source: CharsetSource) {
    let start = bytes.get(..200).unwrap_or(bytes).escape_ascii();
    assert_eq!(charset_of(bytes, content_type), (name.to_owned(), source), "{start}");
}

/// Returns `charset_contradicted` as `count where`, empty if there is none.
fn contradiction_of(bytes: &[u8], content_type: &str) -> String {
    let counted = count_document(bytes, content_type);
    let code = WarningCode::CharsetContradicted;
    let warning = counted.warnings.iter().find(|warning| warning.code == code);
    warning.map_or_else(String::new, |warning| {
        format!("{} {}", warning.count, warning.location.as_deref().unwrap_or_default())
    })
}

/// Returns a page with a `meta` element after a script of the given size.
fn late_meta(script_bytes: usize, after: &[u8]) -> Vec<u8> {
    let script = "a=1;".repeat(script_bytes / 4);
    let head = format!("<!doctype html><script>{script}</script><meta charset=iso-8859-15>");
    [head.as_bytes(), after].concat()
}

fn encode_16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(order).collect()
}

/// Reader that returns chunks of the same size.
struct ChunkReader<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.size.min(buffer.len());
        self.bytes.read(&mut buffer[..size])
    }
}

#[test]
fn charset_sources_have_an_order_of_precedence() {
    let page = b"<?xml version='1.0' encoding='koi8-r'?><meta charset=windows-1251>\xcc\xfb";
    let with_bom = [b"\xef\xbb\xbf", page.as_slice()].concat();
    let header = "text/html; charset=\"ISO-8859-5\"";
    let xml_only = b"<?xml version='1.0' encoding='koi8-r'?><p>\xcc\xfb";
    assert_charset(&with_bom, header, "utf-8", CharsetSource::Bom);
    assert_charset(page, header, "iso-8859-5", CharsetSource::Header);
    assert_charset(page, HTML, "windows-1251", CharsetSource::Meta);
    assert_charset(xml_only, HTML, "koi8-r", CharsetSource::Xml);
    let russian = WINDOWS_1251.encode(RUSSIAN).0;
    assert_charset(&russian, HTML, "windows-1251", CharsetSource::Detected);
    assert_charset(b"mill", HTML, "utf-8", CharsetSource::Default);
}

#[test]
fn xml_ignores_meta() {
    let meta = b"<html><meta charset='koi8-r'/><p>\xd0\xbc\xd0\xb8\xd1\x80</p></html>";
    assert_charset(meta, XHTML, "utf-8", CharsetSource::Detected);
    let both = [b"<?xml version='1.0' encoding='utf-8'?>", meta.as_slice()].concat();
    assert_charset(&both, XHTML, "utf-8", CharsetSource::Xml);
    assert_eq!(contradiction_of(&both, XHTML), "");
}

#[test]
fn every_form_of_meta_charset_is_recognized() {
    for page in [
        "<meta charset=\"windows-1251\">",
        "<META CharSet = windows-1251 />",
        "<meta http-equiv='Content-Type' content='text/html; charset=windows-1251'>",
        "<meta content='text/html;charset = \"windows-1251\"' http-equiv=content-type>",
        "<!-- <meta charset=utf-8> --><meta charset=nonsense><meta charset=cp1251>",
    ] {
        for start in ["", &" ".repeat(3000)] {
            let page = format!("{start}{page}");
            assert_charset(page.as_bytes(), HTML, "windows-1251", CharsetSource::Meta);
        }
    }
}

#[test]
fn tags_without_a_charset_are_skipped() {
    for page in [
        "<meta name=description content='charset=windows-1251'>",
        "<meta charset=hz-gb-2312>",
        "<p title='<meta charset=windows-1251>'>",
        "<meta http-equiv=content-type content='charset'>",
        "<meta http-equiv=content-type content='charset=\"windows-1251'>",
        "<meta charset=windows-12",
    ] {
        for start in ["", &" ".repeat(3000)] {
            let page = format!("{start}{page}");
            assert_charset(page.as_bytes(), HTML, "utf-8", CharsetSource::Default);
        }
    }
    assert_charset(b"<meta charset=windows-1251>", TEXT, "utf-8", CharsetSource::Default);
}

#[test]
fn a_meta_after_the_prescan_decides() {
    for script_bytes in [1000, 1600, 30_000, 70_000, 300_000] {
        let page = late_meta(script_bytes, FRENCH);
        assert_charset(&page, HTML, "iso-8859-15", CharsetSource::Meta);
        let counted = count_document(&page, HTML);
        assert!(counted.histogram.iter().any(|(word, _)| word == "œ"), "{script_bytes}");
    }
}

#[test]
fn a_meta_after_the_first_other_byte_decides() {
    for (before, between) in [(0, 100), (0, 5000), (0, 60_000), (100_000, 30_000)] {
        let start = format!("<!doctype html><script>{}</script><title>", "a=1;".repeat(before / 4));
        let page = [start.as_bytes(), b"caf\xe9</title>", &late_meta(between, FRENCH)].concat();
        assert_charset(&page, HTML, "iso-8859-15", CharsetSource::Meta);
    }
}

#[test]
fn a_meta_in_the_body_decides_near_the_start_of_the_page() {
    let body = |paragraphs: usize| {
        let text = "<p>a mill by the river</p>".repeat(paragraphs);
        [text.as_bytes(), b"<meta charset=iso-8859-15>", FRENCH].concat()
    };
    assert_charset(&body(100), HTML, "iso-8859-15", CharsetSource::Meta);
    assert_charset(&body(5000), HTML, "windows-1252", CharsetSource::Detected);
}

#[test]
fn a_late_meta_in_raw_text_or_a_comment_is_ignored() {
    for (start, end) in [
        ("<script>'", "'</script>"),
        ("<style>", "</style>"),
        ("<title>", "</title>"),
        ("<textarea>", "</textarea>"),
        ("<noscript>", "</noscript>"),
        ("<!--", "-->"),
        ("<p title='", "'>"),
        ("<svg><![CDATA[", "]]></svg>"),
    ] {
        for filler in [1100, 80_000] {
            let filler = format!("<script>{}</script>", "a=1;".repeat(filler / 4));
            let head = format!("{filler}{start}<meta charset=iso-8859-15>{end}");
            let page = [head.as_bytes(), FRENCH].concat();
            assert_charset(&page, HTML, "windows-1252", CharsetSource::Detected);
        }
    }
}

#[test]
fn the_prescan_also_reads_scripts_unless_an_element_declares_another_charset() {
    let script = "<script>'<meta charset=windows-1251>'</script>";
    let russian = WINDOWS_1251.encode(RUSSIAN).0;
    let page = [script.as_bytes(), &russian].concat();
    assert_charset(&page, HTML, "windows-1251", CharsetSource::Meta);
    let page = [script.as_bytes(), b"<meta charset=koi8-r>", &russian].concat();
    assert_charset(&page, HTML, "koi8-r", CharsetSource::Meta);
}

#[test]
fn a_late_meta_overrides_the_xml_declaration_of_html() {
    let declaration = b"<?xml version='1.0' encoding='koi8-r'?>";
    let page = [declaration, late_meta(1600, FRENCH).as_slice()].concat();
    assert_charset(&page, HTML, "iso-8859-15", CharsetSource::Meta);
}

#[test]
fn declarations_are_corrected_as_the_standard_demands() {
    assert_charset(b"<meta charset=utf-16>", HTML, "utf-8", CharsetSource::Meta);
    assert_charset(b"<meta charset=x-user-defined>", HTML, "windows-1252", CharsetSource::Meta);
    let xml = b"<?xml version='1.0' encoding='utf-16'?><p>a";
    assert_charset(xml, HTML, "utf-8", CharsetSource::Xml);
    let header = "text/html; charset=x-user-defined";
    assert_charset(b"a\xe9", header, "x-user-defined", CharsetSource::Header);
}

#[test]
fn ascii_of_any_length_does_not_decide() {
    for ascii_bytes in [0, 65_530, 65_536, 80_000, 200_000] {
        let start = "a mill ".repeat(ascii_bytes / 7);
        let document = [start.as_bytes(), FRENCH].concat();
        for content_type in [HTML, TEXT] {
            assert_charset(&document, content_type, "windows-1252", CharsetSource::Detected);
        }
        let utf_8 = format!("{start} été à l’église");
        assert_charset(utf_8.as_bytes(), HTML, "utf-8", CharsetSource::Detected);
    }
}

#[test]
fn the_detector_sees_the_letters_before_the_first_other_byte() {
    let detect = |ascii: &[u8], rest: &[u8]| {
        let hints = Hints::default();
        let mut decision = CharsetDecision::new(b"", false, Format::Text, &hints);
        for part in ascii.chunks(1) {
            decision.add_ascii(part);
        }
        decision.decide(rest, true);
        decision.charset().unwrap().encoding.name()
    };
    assert_eq!(detect(b"le n", b"\xac"), "windows-1252");
    assert_eq!(detect(b"", b"\xac"), "ISO-8859-2");
}

#[test]
fn iso_2022_jp_is_detected_in_text_only() {
    for ascii_bytes in [0, 20, 80_000] {
        let start = "a mill\n".repeat(ascii_bytes / 7);
        let text = [start.as_bytes(), JAPANESE].concat();
        assert_charset(&text, TEXT, "iso-2022-jp", CharsetSource::Detected);
        assert_charset(&text, HTML, "utf-8", CharsetSource::Default);
    }
    let words = count_document(JAPANESE, TEXT).histogram;
    assert!(words.iter().any(|(word, _)| word == "水車"), "{words:?}");
}

#[test]
fn escapes_of_a_terminal_do_not_decide() {
    let log = "\x1b[31merror\x1b[0m the mill stands still\n".repeat(4000);
    assert_charset(log.as_bytes(), TEXT, "utf-8", CharsetSource::Default);
    let log = [log.as_bytes(), FRENCH].concat();
    assert_charset(&log, TEXT, "windows-1252", CharsetSource::Detected);
}

#[test]
fn utf_16_without_a_mark_is_read_where_it_is_certain() {
    let page = "<?xml version='1.0'?><html><p>The mill</p></html>";
    for (order, name) in
        [(u16::to_le_bytes as fn(u16) -> [u8; 2], "utf-16le"), (u16::to_be_bytes, "utf-16be")]
    {
        for content_type in [HTML, XHTML, "application/octet-stream"] {
            let page = encode_16(page, order);
            assert_charset(&page, content_type, name, CharsetSource::Xml);
            assert_eq!(count_document(&page, content_type).totals.words, 2, "{content_type}");
        }
        for text in ["The mill turns by the river all day", RUSSIAN, "水車は川の\nそばに\n"]
        {
            for content_type in [TEXT, "text/csv", ""] {
                let bytes = encode_16(text, order);
                assert_charset(&bytes, content_type, name, CharsetSource::Detected);
                let words = count_document(text.as_bytes(), TEXT).histogram;
                assert_eq!(count_document(&bytes, content_type).histogram, words, "{text}");
            }
        }
    }
}

#[test]
fn pages_in_undeclared_utf_16_are_refused_by_name() {
    let page = "<!doctype html><title>Mill</title><p>The mill turns by the river all day";
    let page = encode_16(page, u16::to_le_bytes);
    for content_type in [HTML, XHTML, "", "text/plain; charset=utf-8"] {
        let hints = Hints { content_type: Some(content_type), host_tld: None };
        let result = count(page.as_slice(), &hints, &Options::default(), &|_| true);
        let Err(Error::UnsupportedFormat { kind }) = result else {
            panic!("{content_type}: {result:?}");
        };
        assert_eq!(kind, "undeclared UTF-16 without a byte order mark", "{content_type}");
    }
}

#[test]
fn unusual_top_level_domains_are_ignored() {
    let bytes = WINDOWS_1251.encode(RUSSIAN).0;
    for tld in ["ru", "RU", "рф", "co.uk", "", "::1"] {
        let hints = Hints { content_type: Some(TEXT), host_tld: Some(tld) };
        let counted = count(&*bytes, &hints, &Options::default(), &|_| true).unwrap();
        assert_eq!(counted.charset, "windows-1251", "{tld}");
    }
}

#[test]
fn chunks_do_not_change_the_decision() {
    let ascii = "a mill ".repeat(10_000);
    let head = format!("<script>{}</script>", "a=1;".repeat(20_000));
    let meta = "<meta charset=koi8-r>";
    let documents = [
        [ascii.as_bytes(), FRENCH, ascii.as_bytes(), FRENCH].concat(),
        [ascii.as_bytes(), JAPANESE].concat(),
        [head.as_bytes(), FRENCH, head.as_bytes(), meta.as_bytes(), b"\x81"].concat(),
        [head.as_bytes(), b"<p>", meta.as_bytes(), meta.as_bytes(), FRENCH].concat(),
        [FRENCH, &ascii.as_bytes()[..65_000], meta.as_bytes()].concat(),
        [head.as_bytes(), "é".repeat(40_000).as_bytes(), meta.as_bytes(), b"\xff"].concat(),
    ];
    for bytes in documents {
        for content_type in [HTML, XHTML, TEXT] {
            let whole = format!("{:?}", count_document(&bytes, content_type));
            for size in [1, 7, 4096, 10_000] {
                let reader = ChunkReader { bytes: &bytes, size };
                let hints = Hints { content_type: Some(content_type), host_tld: None };
                let chunked = count(reader, &hints, &Options::default(), &|_| true).unwrap();
                assert_eq!(format!("{chunked:?}"), whole, "{content_type} {size}");
            }
        }
    }
}

#[test]
fn invalid_bytes_contradict_the_charset_from_any_source() {
    for (document, content_type, expected) in [
        (
            b"caf\xe9 d\xe9j\xe0".as_slice(),
            "text/plain; charset=utf-8",
            "3 utf-8; invalid from byte 3",
        ),
        (b"\xef\xbb\xbfcaf\xe9", TEXT, "1 utf-8; invalid from byte 6"),
        (b"<meta charset=utf-8>caf\xe9", HTML, "1 utf-8; invalid from byte 23"),
        (b"\xff\xfea\0\0\xd8b\0", TEXT, "1 utf-16le; invalid from byte 4"),
        (b"a\xaab", "text/plain; charset=windows-1253", "1 windows-1253; invalid from byte 1"),
        (b"caf\xc3\xa9 \xe2\x80", "text/plain; charset=utf-8", "1 utf-8; invalid from byte 6"),
        (b"caf\xc3\xa9", "text/plain; charset=utf-8", ""),
    ] {
        assert_eq!(contradiction_of(document, content_type), expected);
    }
}

#[test]
fn bytes_after_the_decision_can_contradict_a_detected_charset() {
    let text = "été à l’église. ".repeat(5000);
    let document = [text.as_bytes(), b"caf\xe9 "].concat();
    let expected = format!("1 utf-8; invalid from byte {}", text.len() + 3);
    assert_eq!(contradiction_of(&document, TEXT), expected);
}

#[test]
fn the_first_invalid_byte_is_found_across_reads() {
    for ascii_bytes in [16_383, 65_535, 65_536, 98_304] {
        let document = [vec![b'a'; ascii_bytes].as_slice(), b"\xe2\x82 a"].concat();
        let found = contradiction_of(&document, "text/plain; charset=utf-8");
        assert_eq!(found, format!("1 utf-8; invalid from byte {ascii_bytes}"));
    }
}

#[test]
fn every_invalid_sequence_is_counted() {
    let document = b"\xff".repeat(100_000);
    let counted = count_document(&document, "text/plain; charset=utf-8");
    assert_eq!(counted.totals.characters, 100_000);
    let found = contradiction_of(&document, "text/plain; charset=utf-8");
    assert_eq!(found, "100000 utf-8; invalid from byte 0");
}

#[test]
fn declarations_of_another_charset_contradict_the_decision() {
    let utf_8 = "text/html; charset=utf-8";
    let meta = "<meta charset=windows-1251>";
    let pragma = "<meta http-equiv=content-type content='text/html; charset=koi8-r'>";
    let xml = "<?xml version='1.0' encoding='windows-1251'?><html/>é";
    for (page, content_type, expected) in [
        (format!("{meta}é"), utf_8, "1 utf-8; meta windows-1251"),
        (format!("{meta}{meta}{pragma}é"), utf_8, "3 utf-8; meta windows-1251"),
        (format!("\u{feff}{pragma}é"), HTML, "1 utf-8; meta koi8-r"),
        (format!("<meta charset=utf-8>é{pragma}"), HTML, "1 utf-8; meta koi8-r"),
        (xml.to_owned(), "application/xhtml+xml; charset=utf-8", "1 utf-8; xml windows-1251"),
        (format!("{xml}<meta charset=utf-8>"), HTML, "1 utf-8; xml windows-1251"),
        (format!("<script>'{meta}'</script>é"), utf_8, ""),
        (format!("{meta}<!-- ASCII -->"), utf_8, ""),
        ("<meta charset=utf8>é".to_owned(), utf_8, ""),
        ("<meta charset=gb2312>é".to_owned(), "text/html; charset=gb18030", ""),
    ] {
        assert_eq!(contradiction_of(page.as_bytes(), content_type), expected, "{page}");
    }
}

#[test]
fn a_meta_after_the_decision_is_a_contradiction() {
    let text = "é".repeat(40_000);
    let page = format!("<script>'{text}'</script><meta charset=koi8-r><p>a");
    assert_charset(page.as_bytes(), HTML, "utf-8", CharsetSource::Detected);
    assert_eq!(contradiction_of(page.as_bytes(), HTML), "1 utf-8; meta koi8-r");
}

#[test]
fn declarations_and_invalid_bytes_are_added_up() {
    let page = b"<meta charset=windows-1251>\xec\xe5";
    let found = contradiction_of(page, "text/html; charset=utf-8");
    assert_eq!(found, "3 utf-8; meta windows-1251; invalid from byte 27");
}
