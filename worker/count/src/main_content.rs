//! Which part of a page is the article, and which is around it.
//!
//! The main part is what `main` elements hold; without one, what `article` elements hold; without
//! those, the page. Navigation, asides, search forms and the page's own headers and footers are
//! never in it. A page is read once, so its text is taken for the main part until an element says
//! better; then what came before is taken back.

use super::{
    counter::Region,
    element::Element,
    open_element::{End, OpenElement},
};

/// What an element is among the parts of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Landmark {
    Main,
    Article,
    /// Within it, headers and footers are not the page's.
    Section,
    Around,
}

/// Which elements hold the main part, as far as the page has been read. The later, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Page,
    Article,
    Main,
}

/// Whether the main part begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainContentChange {
    /// What was taken for the main part is not: a better element has come.
    Better,
    Nothing,
}

/// Follows the parts of a page by the tags that are seen.
pub(super) struct Landmarks {
    holder: Holder,
    main: Option<OpenElement>,
    article: Option<OpenElement>,
    around: Option<OpenElement>,
    sections: usize,
}

impl Landmarks {
    pub(super) const fn new() -> Self {
        Self { holder: Holder::Page, main: None, article: None, around: None, sections: 0 }
    }

    /// Returns where text at this place belongs.
    pub(super) const fn region(&self) -> Region {
        let is_held = match self.holder {
            Holder::Page => true,
            Holder::Article => self.article.is_some(),
            Holder::Main => self.main.is_some(),
        };
        if is_held && self.around.is_none() { Region::Main } else { Region::Around }
    }

    /// Takes the start tag of an element that has content.
    pub(super) fn start(
        &mut self,
        (name, element): (&str, Element),
        role: Option<&str>,
    ) -> MainContentChange {
        self.nest(name, element);
        if role.is_none() && !element.is(Element::LANDMARK) {
            return MainContentChange::Nothing;
        }
        let is_in_section = self.main.is_some() || self.article.is_some() || self.sections > 0;
        match landmark(name, role, is_in_section) {
            // No other landmark may hold it: what is open around it has lost its end tag.
            Some(Landmark::Main) if self.main.is_none() => {
                self.around = None;
                self.main = Some(OpenElement::new(name));
                return self.change_to(Holder::Main);
            }
            Some(Landmark::Article) if self.article.is_none() && self.around.is_none() => {
                self.article = Some(OpenElement::new(name));
                return self.change_to(Holder::Article);
            }
            Some(Landmark::Around) if self.around.is_none() => {
                self.around = Some(OpenElement::new(name));
            }
            Some(Landmark::Section) => self.sections = self.sections.saturating_add(1),
            Some(Landmark::Main | Landmark::Article | Landmark::Around) | None => {}
        }
        MainContentChange::Nothing
    }

    /// Takes an end tag.
    pub(super) fn end(&mut self, (name, element): (&str, Element)) {
        if name == "section" {
            self.sections = self.sections.saturating_sub(1);
        }
        let ends = |open: &mut Option<OpenElement>| {
            let ends = open.as_mut().is_some_and(|open| open.end(name, element) != End::Inside);
            if ends {
                *open = None;
            }
            ends
        };
        ends(&mut self.around);
        // What was begun inside ends with it.
        let ends_main = ends(&mut self.main);
        if ends(&mut self.article) || ends_main {
            self.around = None;
        }
    }

    /// Lets the open elements see a start tag.
    fn nest(&mut self, name: &str, element: Element) {
        for open in [&mut self.around, &mut self.main, &mut self.article] {
            match open {
                Some(followed) if followed.is_ended_by_start(name, element) => *open = None,
                Some(followed) => followed.start(name),
                None => {}
            }
        }
    }

    fn change_to(&mut self, holder: Holder) -> MainContentChange {
        if holder <= self.holder {
            return MainContentChange::Nothing;
        }
        self.holder = holder;
        MainContentChange::Better
    }
}

/// Returns what an element is; its role, where HTML knows it, says it rather than its name.
fn landmark(name: &str, role: Option<&str>, is_in_section: bool) -> Option<Landmark> {
    let by_role = |role: &str| match role {
        "main" => Some(Some(Landmark::Main)),
        "article" => Some(Some(Landmark::Article)),
        "banner" | "complementary" | "contentinfo" | "navigation" | "search" => {
            Some(Some(Landmark::Around))
        }
        "document" | "generic" | "group" | "none" | "note" | "presentation" | "region" => {
            Some(None)
        }
        _ => None,
    };
    let roles = role.unwrap_or_default().to_ascii_lowercase();
    if let Some(found) = roles.split_ascii_whitespace().find_map(by_role) {
        return found;
    }
    match name {
        "main" => Some(Landmark::Main),
        "article" => Some(Landmark::Article),
        "section" => Some(Landmark::Section),
        "aside" | "nav" | "search" => Some(Landmark::Around),
        "header" | "footer" if !is_in_section => Some(Landmark::Around),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use wordmill_common::options::{self, Scope};

    use crate::{DocumentCount, Hints, Options, count};

    fn counted(page: &str, scope: Scope) -> DocumentCount {
        let hints = Hints { content_type: Some("text/html; charset=utf-8"), host_tld: None };
        let options = Options::from(options::Options { scope, ..options::Options::default() });
        count(page.as_bytes(), &hints, &options, &|_| true).unwrap()
    }

    /// Returns the words of the main part, alphabetically.
    fn main_of(page: &str) -> String {
        let part = counted(page, Scope::Main);
        let whole = counted(page, Scope::Page);
        // Both ways to count see the same parts.
        assert_eq!(part.totals_by_scope, whole.totals_by_scope, "{page}");
        assert_eq!(part.totals.words, part.totals_by_scope["main"], "{page}");
        assert_eq!(part.histogram.total(), part.totals_by_scope["main"], "{page}");
        assert_eq!(whole.totals.words, whole.totals_by_scope["page"], "{page}");
        let mut words: Vec<_> = part.histogram.iter().map(|(word, _)| word.to_owned()).collect();
        words.sort_unstable();
        words.join(" ")
    }

    #[test]
    fn the_best_holder_is_the_main_part() {
        for (page, words) in [
            ("a<p>b", "a b"),
            ("x<main>a</main>y", "a"),
            ("x<article>a</article>y<article>b</article>z", "a b"),
            (
                "x<article>y</article><main>a<article>b</article>c</main>z<article>w</article>",
                "a b c",
            ),
            ("x<div role=main>a<div>b</div>c</div>y", "a b c"),
            ("x<div role='foo MAIN'>a</div>y", "a"),
            ("x<main>a</main>y<main>b</main>z", "a b"),
            ("x<main>a<main>b</main>c</main>y", "a b c"),
            ("<main></main>x", ""),
        ] {
            assert_eq!(main_of(page), words, "{page}");
        }
    }

    #[test]
    fn what_is_around_is_left_out() {
        for (page, words) in [
            ("<nav>x</nav>a<aside>y</aside>b<search>z</search>", "a b"),
            ("<header>x</header>a<footer>y</footer>", "a"),
            ("<div role=navigation>x<div>y</div>z</div>a<div role=search>w</div>", "a"),
            ("<p role=banner>x<p>a<p role=contentinfo>y</p><p role=complementary>z</p>", "a"),
            ("<main>a<nav>x<nav>y</nav>z</nav>b<aside>w</aside></main>", "a b"),
            ("<ul><li role=navigation>x<li>a</ul>", "a"),
            ("<aside>x<article>y</article></aside>a", "a"),
        ] {
            assert_eq!(main_of(page), words, "{page}");
        }
    }

    #[test]
    fn headers_of_sections_belong_to_them() {
        for (page, words) in [
            ("<article><header>a</header>b<footer>c</footer></article><footer>x</footer>", "a b c"),
            ("<main><header>a</header><section><footer>b</footer></section></main>", "a b"),
            ("<section><header>a</header></section><header>x</header>", "a"),
            ("<article><header role=banner>x</header>a</article>", "a"),
            (
                "<aside role=note>a</aside><nav role=presentation>b</nav><nav role=foo>x</nav>",
                "a b",
            ),
        ] {
            assert_eq!(main_of(page), words, "{page}");
        }
    }

    #[test]
    fn lost_and_hidden_tags_do_little_harm() {
        for (page, words) in [
            ("<header>x<nav>y<main>a</main>z", "a"),
            ("<article>a<nav>x</article><article>b</article>", "a b"),
            ("<main hidden>x</main>a<main style='display: none'>y</main>", "a"),
            ("<nav hidden>x</nav>a</nav>b", "a b"),
            ("<template><main>x</main></template>a", "a"),
            ("<main>a</nav></aside>b</main></main>x", "a b"),
            ("</main></article></section></header>a", "a"),
            ("<main>a", "a"),
        ] {
            assert_eq!(main_of(page), words, "{page}");
        }
    }

    #[test]
    fn no_word_spans_two_parts() {
        let whole = counted("a<span role=search>b</span>c", Scope::Page);
        assert_eq!(whole.totals.words, 3);
    }

    #[test]
    fn characters_are_those_of_the_scope() {
        let page = "<nav>one two</nav><p>a <b>b</b></p><footer>three</footer><p>c";
        let part = counted(page, Scope::Main).totals;
        assert_eq!((part.characters, part.characters_no_spaces), (5, 3));
        let page = "before<main>a b</main>after";
        let part = counted(page, Scope::Main).totals;
        assert_eq!((part.characters, part.characters_no_spaces), (3, 2));
    }

    #[test]
    fn a_text_is_all_main() {
        for scope in [Scope::Page, Scope::Main] {
            let options = Options::from(options::Options { scope, ..options::Options::default() });
            let hints = Hints { content_type: Some("text/markdown"), host_tld: None };
            let text = b"# A <nav> mill".chain(&b" turns"[..]);
            let counted = count(text, &hints, &options, &|_| true).unwrap();
            assert_eq!(counted.totals.words, 4);
            assert_eq!((counted.totals_by_scope["page"], counted.totals_by_scope["main"]), (4, 4));
        }
    }
}
