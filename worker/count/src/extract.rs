//! Extracts the visible text of a page, as a stream.

use memchr::memchr;
use wordmill_common::warning::WarningCode;

use super::{
    counter::{Counter, DropReason, Region},
    rendering::Rendering,
    tokenizer::{Attribute, Content, EntityError, Sink, Syntax, Tag, Tokenizer},
    tree::Tree,
};

/// Adds the visible text of a page to a counter.
pub(super) struct Extractor {
    tokenizer: Tokenizer,
    tree: Tree,
    state: TextState,
}

impl Extractor {
    pub(super) fn new(syntax: Syntax) -> Self {
        Self {
            tokenizer: Tokenizer::new(syntax),
            tree: Tree::new(syntax),
            state: TextState::default(),
        }
    }

    /// Adds the next chunk of the page.
    pub(super) fn push(&mut self, chunk: &str, counter: &mut Counter) {
        // Search once per chunk instead of in every text between two tags, because most of those
        // are short.
        let has_nul = memchr(0, chunk.as_bytes()).is_some();
        let Self { tokenizer, tree, state } = self;
        tokenizer.push(chunk, &mut PageSink { tree, state, counter, has_nul });
    }

    /// Returns whether the root is an element of XHTML, or `None` before the root or in HTML.
    pub(super) const fn has_xhtml_root(&self) -> Option<bool> {
        self.tree.has_xhtml_root()
    }

    /// Returns why the page cannot be counted, as far as it was read.
    pub(super) const fn error(&self) -> Option<EntityError> {
        self.tokenizer.error()
    }

    /// Ends the page.
    pub(super) fn end(&mut self, counter: &mut Counter) {
        let Self { tokenizer, tree, state } = self;
        tokenizer.end(&mut PageSink { tree, state, counter, has_nul: false });
        if tree.is_page_hidden() {
            counter.discard();
        }
        counter.record_scripts(tree.script_count());
        let unclosed = tree.end();
        if let Some(first) = unclosed.first_name {
            let name = first.text();
            let location = (!name.is_empty()).then_some(name.as_str());
            counter.warn(WarningCode::UnclosedHiddenElement, unclosed.count, location);
        }
        counter.warn(WarningCode::NestingTooDeep, tree.too_deep_count(), None);
    }
}

/// Rendering, region and drop reason of the last text. They rarely change from text to text.
#[derive(Clone, Copy, Default)]
struct TextState {
    rendering: Rendering,
    region: Region,
    drop_reason: Option<DropReason>,
}

/// Receives the text and tags of a page.
struct PageSink<'a> {
    tree: &'a mut Tree,
    state: &'a mut TextState,
    counter: &'a mut Counter,
    /// Whether text may contain NUL. Text that the tokenizer holds from an earlier chunk contains
    /// none.
    has_nul: bool,
}

impl PageSink<'_> {
    #[inline(never)]
    fn enter(&mut self, rendering: Rendering) {
        self.state.rendering = rendering;
        self.state.drop_reason = rendering.text_drop_reason();
        let region = self.tree.region_of(rendering);
        if self.state.drop_reason.is_none() && region != self.state.region {
            self.counter.set_region(region);
            self.state.region = region;
        }
    }

    #[cold]
    fn add_text_with_nul(&mut self, text: &str) {
        if self.tree.is_in_foreign() && !self.tree.is_in_integration_point() {
            // In SVG and MathML, HTML replaces NUL. Elsewhere, it is dropped.
            self.counter.add_page_text_without_nul(&text.replace('\0', "\u{fffd}"));
        } else {
            self.counter.add_page_text(text);
        }
    }

    #[inline]
    fn apply_changes(&mut self) {
        if self.tree.has_separation() {
            self.counter.separate();
            self.tree.clear_separation();
        }
        if self.tree.has_better_main() {
            self.restart_main();
        }
    }

    #[cold]
    fn restart_main(&mut self) {
        self.tree.clear_better_main();
        self.counter.restart_main();
        self.state.region = Region::Main;
        self.enter(self.tree.rendering());
    }
}

impl Sink for PageSink<'_> {
    fn add_text(&mut self, text: &str) {
        let rendering = match self.tree.usual_rendering() {
            Some(rendering) => rendering,
            None => {
                let rendering = self.tree.text(text);
                self.apply_changes();
                rendering
            }
        };
        if rendering != self.state.rendering {
            self.enter(rendering);
        }
        match self.state.drop_reason {
            None if self.has_nul => self.add_text_with_nul(text),
            None => self.counter.add_page_text_without_nul(text),
            Some(reason) => self.counter.record_dropped(reason, text),
        }
    }

    fn start_tag(&mut self, tag: &Tag) -> Content {
        if tag.has_attributes()
            && tag.name() == "html"
            && let Some(language) = tag.value(Attribute::Lang)
        {
            self.counter.set_declared_language(language);
        }
        let content = self.tree.start_tag(tag);
        self.apply_changes();
        content
    }

    fn end_tag(&mut self, tag: &Tag) {
        self.tree.end_tag(tag);
        self.apply_changes();
    }

    fn doctype(&mut self, text: &str) {
        self.tree.doctype(text);
    }

    fn has_cdata(&self) -> bool {
        self.tree.is_xml()
    }
}

#[cfg(test)]
mod tests {
    use wordmill_common::histogram::Histogram;

    use super::*;
    use crate::Options;

    fn words_of(page: &str, syntax: Syntax) -> Histogram {
        let mut counter = Counter::new(&Options::default());
        let mut extractor = Extractor::new(syntax);
        extractor.push(page, &mut counter);
        extractor.end(&mut counter);
        counter.finish().unwrap().histogram
    }

    fn words(page: &str, syntax: Syntax) -> String {
        let histogram = words_of(page, syntax);
        let words: Vec<_> = histogram.iter().map(|(word, _)| word).collect();
        words.join(" ")
    }

    #[test]
    fn xml_has_cdata_and_closed_elements() {
        let page = "<p>a <![CDATA[<b>]]></p><script/><title/>c<p hidden=''/>d<br/>e\
                    <script>x<![CDATA[</script>]]>y</script>";
        assert_eq!(words(page, Syntax::Xml), "a b cd e");
        assert_eq!(words("a<![CDATA[x]]>b<script/>y", Syntax::Html), "ab");
    }

    #[test]
    fn svg_is_parsed_as_xml_until_html_resumes() {
        assert_eq!(
            words("<svg><text><![CDATA[a]]></text><style/><title/></svg>b", Syntax::Html),
            "a b"
        );
        assert_eq!(words("<svg><p>a<title>x</title>b<script/>y", Syntax::Html), "ab");
    }

    // The expected words of the next two tests are those of `innerText` in Chromium 156, except at
    // boxes, such as `img`, and at `tspan`.

    #[test]
    fn elements_are_inline_by_default() {
        for (page, expected) in [
            ("water<x-hl>mill</x-hl>, bread<my-note>s</my-note>", "breads watermill"),
            ("baker<o:p></o:p>y in <st1:state w:st='on'>Lon</st1:state>don", "bakery in london"),
            ("a<output>b</output>c<picture>d</picture>e<slot>f</slot>g", "abcdefg"),
            ("a<map>b<area>c</map>d<marquee>e</marquee>f", "abcdef"),
            ("a<ruby>b<rb>c</rb></ruby>d<unknown/>e</nonsense>f", "abcdef"),
            ("a<math><mi>b</mi><mn>1</mn></math>c<svg><a>d</a></svg>e", "1 a b cde"),
            ("a<legend>b</legend>c<figure>d</figure>e<hgroup>f</hgroup>g", "a b c d e f g"),
            ("<math><mtable><mtr><mtd>a<mtd>b</mtr></mtable></math>c", "a b c"),
            ("<svg><text>a</text><text>b</text><foreignObject>c</foreignObject></svg>d", "a b c d"),
            ("a<img>b<image>c<svg><text>d<tspan>e</tspan></text></svg>", "a b c d e"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
        assert_eq!(words("<p>a<x-b>b</x-b>c<y:z/>d</p>", Syntax::Xml), "abcd");
    }

    #[test]
    fn elements_that_are_never_rendered_are_omitted() {
        for (page, expected) in [
            ("<a><svg role=img><title>x</title><desc>The logo.</desc></svg></a><p>a", "a"),
            ("<svg><desc>x</desc><metadata>x</metadata></svg>a", "a"),
            (
                "<math><semantics><mi>a</mi><annotation>x</annotation>\
                 <annotation-xml>x</annotation-xml></semantics></math>",
                "a",
            ),
            ("<ruby>漢<rp>x</rp><rt>b</rt><rp>x</rp></ruby>", "b 漢"),
            ("<desc>a</desc><metadata>b</metadata><annotation>c</annotation>", "abc"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
        assert_eq!(words("<p>a<svg><desc>x</desc></svg></p>", Syntax::Xml), "a");
    }

    // The expected words of the next tests are those of `innerText` in Chromium 156.

    #[test]
    fn a_missing_end_tag_hides_no_more_than_in_a_browser() {
        for (page, expected) in [
            ("<div><canvas id=c /></div><p>a", "a"),
            ("<p>a <audio src=x controls></p><p>b", "a b"),
            ("<p>a <span style='display:none'>x</p><p>b</p><p>c", "a b c"),
            ("<section><div hidden>x</section><section><p>a", "a"),
            ("<ul><li>a<video><li>b</ul><table><tr><td><progress>x<td>c</table>d", "a b c d"),
            ("<dl><dt hidden><iframe></iframe>x<dd>a</dl>", "a"),
            ("<a><meter>x</a> b<form><div hidden>x</form>x</div>c", "b c"),
            ("<div hidden/>x</div>a<span hidden/>x</span>b<br hidden/>c", "abc"),
            ("<p hidden>x<table><tr><td>x</table>x</p>a", "a"),
            ("<!DOCTYPE html><p hidden>x<table><tr><td>a</table>b", "a b"),
            ("<table hidden>a<tr><td>x</table> b<table><tr hidden><td>x</table>", "a b"),
            ("<svg><title>x</svg>a", "a"),
            ("<button hidden>x<button>a", "a"),
            ("<b hidden>x<p>x</b>a</p>b", "a b"),
            ("<p><b hidden>x<p>x</b>a", "a"),
            ("<template><div></template>a</div>b", "ab"),
            ("<object hidden>x</p>x</object>a", "a"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn visibility_is_inherited_and_can_be_overridden() {
        for (page, expected) in [
            ("<div style='visibility:hidden'>x</div>a", "a"),
            ("<div style='visibility:hidden'>x<p style='visibility:visible'>a</p>x</div>b", "a b"),
            ("<div style='visibility:collapse'>x<b>x</b></div>a", "a"),
            ("<div style='visibility:hidden'><div style='visibility:inherit'>x</div></div>a", "a"),
            ("<div style='display:none'>x<b style='visibility:visible'>x</b></div>a", "a"),
            ("<math><mphantom>x</mphantom><mi>a</mi></math>", "a"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn svg_has_its_own_attributes() {
        for (page, expected) in [
            ("<svg display=none><text>x</text></svg>a", "a"),
            ("<svg><text visibility=hidden>x</text><text>a</text></svg>", "a"),
            ("<svg display=none style='display:block'><text>a</text></svg>", "a"),
            ("<svg hidden><text>a</text></svg>", "a"),
            ("<p display=none visibility=hidden>a", "a"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn declarations_of_display_take_precedence_over_attributes() {
        for (page, expected) in [
            ("<div hidden style='display:block'>a</div>", "a"),
            ("<div hidden style='display:revert'>a</div>b", "a b"),
            ("<div hidden style='display:revert-layer'>x</div>a", "a"),
            ("<div hidden=until-found>x</div>a", "a"),
            ("<div style='content-visibility:hidden'>x<b>x</b></div>a", "a"),
            ("<span style='content-visibility:hidden'>a</span>", "a"),
            ("a<span style='display:block'>b</span>c", "a b c"),
            ("<div style='display:flex'><b>a</b><b>b</b></div>", "a b"),
            ("a<input type=hidden>b<audio></audio>c", "abc"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn only_the_first_child_of_an_alternative_is_visible_in_mathml() {
        for (page, expected) in [
            ("<math><semantics><mi>a</mi><mi>x</mi></semantics><mi>b</mi></math>", "a b"),
            ("<math><maction><mi>a</mi><mtext>x</mtext></maction></math>", "a"),
            ("<semantics><b>a</b><b>b</b></semantics>", "ab"),
            ("<semantics><math>a</math><math>b</math></semantics>", "ab"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn a_hidden_body_is_shown_if_the_page_has_a_script() {
        for (page, expected) in [
            ("<body hidden>x", ""),
            ("<html style='display:none'><p>x", ""),
            ("<p>x<body style='visibility:hidden'>", ""),
            ("<body style='display:none'>a<script></script>b", "ab"),
            ("<script></script><body hidden>a", "a"),
        ] {
            assert_eq!(words(page, Syntax::Html), expected, "{page}");
        }
    }

    #[test]
    fn pages_of_frames_have_no_text() {
        assert_eq!(words("<frameset>x<frame><noframes>x</noframes></frameset>x", Syntax::Html), "");
        assert_eq!(words("a<frameset>b", Syntax::Html), "ab");
    }

    #[test]
    fn xml_identifies_elements_by_their_namespace() {
        const XHTML: &str = "http://www.w3.org/1999/xhtml";
        const SVG: &str = "http://www.w3.org/2000/svg";
        for (page, expected) in [
            (
                format!(
                    "<h:html xmlns:h='{XHTML}'><h:head><h:title>x</h:title></h:head><h:body>\
                     <h:style>x</h:style><h:script>x</h:script><h:p>re<h:b>al</h:b></h:p>\
                     <h:p>words</h:p></h:body></h:html>"
                ),
                "real words",
            ),
            (format!("<html xmlns='{XHTML}'><p>a</p><SCRIPT>b</SCRIPT></html>"), "a b"),
            (
                format!(
                    "<html xmlns='{XHTML}'><s:svg xmlns:s='{SVG}'><s:desc>x</s:desc></s:svg>a</html>"
                ),
                "a",
            ),
            (format!("<html xmlns='{XHTML}'><svg><desc>a</desc></svg></html>"), "a"),
            (
                format!(
                    "<html xmlns='{XHTML}' xmlns:x='y'><x:script>a</x:script><x:p>b</x:p></html>"
                ),
                "ab",
            ),
            (
                format!(
                    "<a xmlns:h='{XHTML}'><h:p hidden=''>x</h:p><b xmlns:h='y'><h:p>a</h:p></b></a>"
                ),
                "a",
            ),
            ("<html><svg><desc>x</desc></svg><head>x<p>x</p></head>a</html>".to_owned(), "a"),
        ] {
            assert_eq!(words(&page, Syntax::Xml), expected, "{page}");
        }
    }

    #[test]
    fn xml_entities_are_expanded() {
        let doctype =
            "<!DOCTYPE html [<!-- ]> --><!ENTITY co 'Mill &amp; Sons'><!ENTITY a.b 'd'>\n]>";
        let page = format!("{doctype}<p>at &co;, c&a.b;e &eacute;t&#233; &amp; x&undeclared;</p>");
        assert_eq!(words(&page, Syntax::Xml), "at cde mill sons undeclared x été");
        for bytes in [1, 3, 7] {
            let chunks: Vec<String> = page
                .chars()
                .collect::<Vec<_>>()
                .chunks(bytes)
                .map(|chunk| chunk.iter().collect())
                .collect();
            let mut counter = Counter::new(&Options::default());
            let mut extractor = Extractor::new(Syntax::Xml);
            for chunk in &chunks {
                extractor.push(chunk, &mut counter);
            }
            extractor.end(&mut counter);
            assert_eq!(counter.finish().unwrap().histogram, words_of(&page, Syntax::Xml));
        }
    }

    #[test]
    fn unclosed_elements_end_with_the_page() {
        for tail in [
            "<!-- x",
            "<script>x",
            "<script><!-- <script> x",
            "<style>x",
            "<textarea>x </text",
            "<title>x",
            "<template>x",
            "<video>x",
            "<a href=\"x",
            "<div hidden>x",
            "</x",
            "<x y",
            "<!doctype x",
            "<?x",
            "<![CDATA[x",
            "<iframe>x",
        ] {
            assert_eq!(words(&format!("a {tail}"), Syntax::Html), "a", "{tail}");
        }
        assert_eq!(words("a <plaintext>b</plaintext>", Syntax::Html), "a b plaintext");
        assert_eq!(words("<svg><![CDATA[a", Syntax::Html), "a");
    }

    #[test]
    fn raw_text_ends_only_at_its_own_end_tag() {
        assert_eq!(words("<script>x</scriptx></b></script>a", Syntax::Html), "a");
        assert_eq!(words("<title>x</titles></title >a", Syntax::Html), "a");
        assert_eq!(words("<noscript><p>x</p></NoScript>a", Syntax::Html), "a");
        let long_name = "x".repeat(100_000);
        let page = format!("<script></{long_name}>x</script>a</{long_name}>b<{long_name}>c");
        assert_eq!(words(&page, Syntax::Html), "abc");
    }

    #[test]
    fn characters_split_by_the_tokenizer_stay_whole() {
        assert_eq!(words("<é a<水b &é &amp;é", Syntax::Html), "é a b 水");
        let long = format!("{}é{}", " ".repeat(16_383), "<b>水</b>".repeat(6000));
        assert_eq!(words_of(&long, Syntax::Html).total(), 6001);
    }
}
