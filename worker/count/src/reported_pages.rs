//! Pages that other programs count wrong, rebuilt from public reports, and further pages of their
//! kinds. The expected words are those that Chromium 156 shows, unless a comment explains another
//! decision.

use wordmill_common::options::{Options as JobOptions, RuleName, Scope};

use super::{DocumentCount, Hints, Options, count};

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><body>";

fn count_with(page: &str, content_type: &str, job_options: JobOptions) -> DocumentCount {
    let hints = Hints { content_type: Some(content_type), host_tld: None };
    count(page.as_bytes(), &hints, &Options::from(job_options), &|_| true).unwrap()
}

/// Returns the words of a page, alphabetically.
fn words_of(counted: &DocumentCount) -> String {
    let mut words: Vec<_> = counted.histogram.iter().map(|(word, _)| word).collect();
    words.sort_unstable();
    words.join(" ")
}

fn assert_words(pages: &[(&str, u64, &str)]) {
    for (body, total, words) in pages {
        let page = format!("{HEAD}{body}");
        let counted = count_with(&page, "text/html; charset=utf-8", JobOptions::default());
        assert_eq!(words_of(&counted), *words, "{body}");
        assert_eq!(counted.totals.words, *total, "{body}");
    }
}

fn assert_xhtml_words(page: &str, words: &str) {
    let counted = count_with(page, "application/xhtml+xml", JobOptions::default());
    assert_eq!(words_of(&counted), words, "{page}");
}

#[test]
fn boxes_and_hidden_elements_without_end_tags_end_with_their_parents() {
    assert_words(&[
        (
            "<div><canvas id=c /></div><p>the story goes on for readers</p>",
            6,
            "for goes on readers story the",
        ),
        (
            "<p>Listen: <audio src=a.mp3 controls></p><p>the story goes on for readers</p>",
            7,
            "for goes listen on readers story the",
        ),
        (
            "<p>start <span style='display:none'>secret</p><p>first visible paragraph</p>\
             <p>second visible paragraph</p>",
            7,
            "first paragraph second start visible",
        ),
        (
            "<section><p>intro</p><div hidden>secret</section>\
             <section><p>visible story here</p></section>",
            4,
            "here intro story visible",
        ),
        ("<div><video><source src=a></div>a<figure><progress></figure>b", 2, "a b"),
        ("<table><tr><td>a<td hidden>x<tr><td>b</table>", 2, "a b"),
        ("<article><section hidden>x</article>a", 1, "a"),
        ("<ol><li>a<span hidden>x<li>b</ol>", 2, "a b"),
        ("<h1>a<meter></h1>b", 2, "a b"),
    ]);
}

#[test]
fn landmarks_end_with_their_parents() {
    for (body, words) in [
        ("<div><nav>Home News</div><p>story words here</p>", "here story words"),
        ("<ul><li><aside>x</li><li>a</ul>b", "a b"),
        ("<table><tr><td><nav>x<td>a</table>", "a"),
        ("<div><article>a</div>x", "a"),
        ("<section><header>a</section><header>x</header>b", "a b"),
    ] {
        let scope = JobOptions { scope: Scope::Main, ..JobOptions::default() };
        let page = format!("{HEAD}{body}");
        let counted = count_with(&page, "text/html; charset=utf-8", scope);
        assert_eq!(words_of(&counted), words, "{body}");
    }
}

#[test]
fn elements_that_no_browser_shows_are_omitted() {
    assert_words(&[
        (
            "<a href=/><svg role=img><title>The Mill</title><desc>The Mill logo.</desc>\
             <path d=''/></svg></a><p>News today</p>",
            2,
            "news today",
        ),
        (
            "<p>Energy <math><semantics><mrow><mi>E</mi><mo>=</mo><mi>m</mi></mrow>\
             <annotation encoding='application/x-tex'>E = \\frac{alpha}{beta}</annotation>\
             </semantics></math> is known</p>",
            5,
            "e energy is known m",
        ),
        (
            "<div style='visibility: hidden'><p>Mill opens again</p></div><p>Mill opens</p>",
            2,
            "mill opens",
        ),
        ("<svg><metadata>x</metadata><style>x</style><script>x</script></svg>a", 1, "a"),
    ]);
}

#[test]
fn styles_are_read_as_css() {
    assert_words(&[
        ("<p>seen <span style='display:none/*hidden*/'>ghost</span> end", 2, "end seen"),
        (
            "<p>seen <span style='display:none !important; display:block'>ghost</span> end",
            2,
            "end seen",
        ),
        ("<p>seen <span style='display:none;display:nonsense'>ghost</span> end", 2, "end seen"),
        ("<p>seen <span style='display&colon;none'>ghost</span> end", 2, "end seen"),
        ("<p>seen <span style='content:&quot;;display:none;&quot;'>a</span> end", 3, "a end seen"),
    ]);
}

#[test]
fn a_body_that_a_script_shows_is_counted() {
    let page = "<!doctype html><html><head><meta charset=utf-8></head><body style='display:none'>\
                <h1>Fresh bread</h1><p>Baked each day</p>\
                <script>document.body.style.display='block'</script></body></html>";
    let counted = count_with(page, "text/html; charset=utf-8", JobOptions::default());
    assert_eq!(words_of(&counted), "baked bread day each fresh");
}

#[test]
fn a_declarative_shadow_root_is_counted() {
    assert_words(&[
        (
            "<div><template shadowrootmode=open><p>Shadow words shown <slot></slot></p></template>\
             Light words</div>",
            5,
            "light shadow shown words",
        ),
        ("<x-y><template shadowrootmode=closed>a</template></x-y>", 1, "a"),
        ("<template shadowrootmode=none>x</template>a", 1, "a"),
    ]);
}

#[test]
fn unknown_and_custom_elements_do_not_end_words() {
    assert_words(&[
        (
            "<p>The water<x-hl>mill</x-hl> turns, bread<my-note>s</my-note> rise</p>",
            5,
            "breads rise the turns watermill",
        ),
        (
            "<p class=MsoNormal>The baker<o:p></o:p>y in <st1:place w:st='on'>Lon</st1:place>don \
             opens<o:p>&nbsp;</o:p></p>",
            5,
            "bakery in london opens the",
        ),
        // Drawings of other programs position each part of a text, often without a space between
        // words, so that `tspan` ends words.
        ("<svg><text>Mill<tspan>er</tspan></text><text>Bread</text></svg>", 3, "bread er mill"),
    ]);
}

#[test]
fn xhtml_is_read_by_namespaces() {
    assert_xhtml_words(
        "<?xml version='1.0'?><h:html xmlns:h='http://www.w3.org/1999/xhtml'><h:head>\
         <h:title>Title words</h:title><h:style>p{color:red}</h:style></h:head><h:body>\
         <h:p>Real <h:b>w</h:b>ords</h:p><h:script>var hidden = 1;</h:script></h:body></h:html>",
        "real words",
    );
    assert_xhtml_words(
        "<!DOCTYPE html [<!ENTITY who \"the > miller\"><!ELEMENT p ANY>]>\
         <html xmlns='http://www.w3.org/1999/xhtml'><p>ask &who;</p></html>",
        "ask miller the",
    );
    // XML would make U+0092 of the reference, but authors mean the apostrophe of windows-1252.
    assert_xhtml_words(
        "<?xml version='1.0' encoding='utf-8'?><html xmlns='http://www.w3.org/1999/xhtml'>\
         <head><title>t</title></head><body><p>It&#146;s here</p></body></html>",
        "here it's",
    );
}

#[test]
fn the_root_decides_whether_xml_is_xhtml() {
    let count_xml = |page: &str, content_type| {
        let hints = Hints { content_type, host_tld: None };
        match count(page.as_bytes(), &hints, &Options::default(), &|_| true) {
            Ok(counted) => words_of(&counted),
            Err(error) => error.to_string(),
        }
    };
    let comment = format!("<!--{}-->", " <html> ".repeat(20_000));
    for content_type in [Some("application/xml"), Some("text/xml"), None] {
        let kind = content_type.unwrap_or("text/xml");
        let refusal = format!("cannot count words in {kind}");
        let xhtml = "<html xmlns='http://www.w3.org/1999/xhtml'><p>a</p></html>";
        for (root, result) in [
            (xhtml, "a"),
            ("<!DOCTYPE html [<!-- <x> -->]><html><p>a</p></html>", "a"),
            ("<x:div xmlns:x='http://www.w3.org/1999/xhtml'>a</x:div>", "a"),
            ("<feed xmlns='http://www.w3.org/2005/Atom'><html>a</html></feed>", &refusal),
            ("<html xmlns='urn:x'>a</html>", &refusal),
            ("<note>a</note>", &refusal),
            ("", &refusal),
        ] {
            let page = format!("<?xml version='1.0'?>{comment}<?x <html> ?>{root}");
            assert_eq!(count_xml(&page, content_type), result, "{root} as {content_type:?}");
        }
    }
}

#[test]
fn the_rule_whitespace_counts_like_wc() {
    let whitespace = |page: &str, content_type| {
        let rule = JobOptions { rule: RuleName::Whitespace, ..JobOptions::default() };
        count_with(page, content_type, rule).totals.words
    };
    // As in `wc -w`, invisible characters between white space are words.
    let preheader =
        format!("<p>Deal of the day{}</p><p>Hello there</p>", "&zwnj;&nbsp;".repeat(40));
    assert_eq!(whitespace(&preheader, "text/html; charset=utf-8"), 45);
    // Unlike `wc -w`, white space is that of Unicode: U+0085 and U+2028, but not U+2060.
    let text = "a\u{2060}b c\u{85}d e\u{2028}f";
    assert_eq!(whitespace(text, "text/plain; charset=utf-8"), 5);
}
