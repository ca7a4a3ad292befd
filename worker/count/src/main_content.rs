//! Separates the main content of a page from its boilerplate.
//!
//! The main content is the content of the `main` elements. If there are none, it is the content of
//! the `article` elements, and otherwise the whole page. Navigation, asides, search forms and the
//! headers and footers of the page are never part of it.
//!
//! A page is read once, so all text is treated as main content until a better element starts. Then
//! the main content so far is discarded. For example, in `a<article>b</article><main>c`, the main
//! content is first `a`, then `b` and finally `c`.

use super::{counter::Region, element::Name};

/// Role of an element in the structure of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landmark {
    Main,
    Article,
    /// A section. A `header` or `footer` inside it belongs to the section, not to the page.
    Section,
    /// A `header` or `footer`, which is boilerplate if it belongs to the page.
    HeaderOrFooter,
    Boilerplate,
}

impl Landmark {
    const ALL: [Self; 5] =
        [Self::Main, Self::Article, Self::Section, Self::HeaderOrFooter, Self::Boilerplate];

    /// Returns the number of the landmark, from 1.
    pub(super) const fn bits(self) -> u16 {
        self as u16 + 1
    }

    /// Returns the landmark with a number, or `None` for 0.
    pub(super) fn of_bits(bits: u16) -> Option<Self> {
        let index = usize::from(bits).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// Returns the landmark of an element: by its first known role, otherwise by its name.
    pub(super) fn of(name: Name, role: Option<&str>) -> Option<Self> {
        let by_role = |role: &str| match role {
            "main" => Some(Some(Self::Main)),
            "article" => Some(Some(Self::Article)),
            "region" => Some(Some(Self::Section)),
            "banner" | "complementary" | "contentinfo" | "navigation" | "search" => {
                Some(Some(Self::Boilerplate))
            }
            // These roles replace the meaning of the name: `<nav role=presentation>` is not
            // navigation.
            "document" | "generic" | "group" | "none" | "note" | "presentation" => Some(None),
            _ => None,
        };
        let roles = role.unwrap_or_default().to_ascii_lowercase();
        if let Some(landmark) = roles.split_ascii_whitespace().find_map(by_role) {
            return landmark;
        }
        match name {
            Name::MAIN => Some(Self::Main),
            Name::ARTICLE => Some(Self::Article),
            Name::SECTION => Some(Self::Section),
            Name::HEADER | Name::FOOTER => Some(Self::HeaderOrFooter),
            Name::ASIDE | Name::NAV | Name::SEARCH => Some(Self::Boilerplate),
            _ => None,
        }
    }
}

/// Landmarks that contain a text, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LandmarkState(u16);

impl LandmarkState {
    const MAIN: u16 = 1;
    const ARTICLE: u16 = 1 << 1;
    const SECTION: u16 = 1 << 2;
    const BOILERPLATE: u16 = 1 << 3;

    const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    pub(super) const fn of_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u16 {
        self.0
    }

    /// Returns the state in a landmark inside.
    pub(super) const fn enter(self, landmark: Landmark) -> Self {
        let is_in_section = self.has(Self::MAIN | Self::ARTICLE | Self::SECTION);
        let is_in_main = self.has(Self::MAIN);
        Self(match landmark {
            // No boilerplate can contain `main`, so the end tag of an open one is missing.
            Landmark::Main if !is_in_main => (self.0 & !Self::BOILERPLATE) | Self::MAIN,
            Landmark::Article if !self.has(Self::BOILERPLATE) => self.0 | Self::ARTICLE,
            Landmark::Section => self.0 | Self::SECTION,
            Landmark::HeaderOrFooter if !is_in_section => self.0 | Self::BOILERPLATE,
            Landmark::Boilerplate => self.0 | Self::BOILERPLATE,
            Landmark::Main | Landmark::Article | Landmark::HeaderOrFooter => self.0,
        })
    }
}

/// Kind of element that contains the main content so far. Later variants take precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MainHolder {
    #[default]
    Page,
    Article,
    Main,
}

impl MainHolder {
    /// Returns the best holder that text in the given landmarks has.
    pub(super) const fn of(state: LandmarkState) -> Self {
        if state.has(LandmarkState::MAIN) {
            Self::Main
        } else if state.has(LandmarkState::ARTICLE) {
            Self::Article
        } else {
            Self::Page
        }
    }

    /// Returns the region of text in the given landmarks.
    #[inline]
    pub(super) const fn region(self, state: LandmarkState) -> Region {
        let is_main = match self {
            Self::Page => true,
            Self::Article => state.has(LandmarkState::ARTICLE),
            Self::Main => state.has(LandmarkState::MAIN),
        };
        if is_main && !state.has(LandmarkState::BOILERPLATE) {
            Region::Main
        } else {
            Region::Boilerplate
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use wordmill_common::options::{self, Scope};

    use crate::{DocumentCount, Hints, Options, count};

    fn count_page(page: &str, scope: Scope) -> DocumentCount {
        let hints = Hints { content_type: Some("text/html; charset=utf-8"), host_tld: None };
        let options = Options::from(options::Options { scope, ..options::Options::default() });
        count(page.as_bytes(), &hints, &options, &|_| true).unwrap()
    }

    /// Returns the words of the main content, alphabetically.
    fn main_words(page: &str) -> String {
        let part = count_page(page, Scope::Main);
        let whole = count_page(page, Scope::Page);
        // The parts do not depend on the selected scope.
        assert_eq!(part.totals_by_scope, whole.totals_by_scope, "{page}");
        assert_eq!(part.totals.words, part.totals_by_scope["main"], "{page}");
        assert_eq!(part.histogram.total(), part.totals_by_scope["main"], "{page}");
        assert_eq!(whole.totals.words, whole.totals_by_scope["page"], "{page}");
        let mut words: Vec<_> = part.histogram.iter().map(|(word, _)| word.to_owned()).collect();
        words.sort_unstable();
        words.join(" ")
    }

    #[test]
    fn the_best_element_holds_the_main_content() {
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
            assert_eq!(main_words(page), words, "{page}");
        }
    }

    #[test]
    fn boilerplate_is_omitted() {
        for (page, words) in [
            ("<nav>x</nav>a<aside>y</aside>b<search>z</search>", "a b"),
            ("<header>x</header>a<footer>y</footer>", "a"),
            ("<div role=navigation>x<div>y</div>z</div>a<div role=search>w</div>", "a"),
            ("<p role=banner>x<p>a<p role=contentinfo>y</p><p role=complementary>z</p>", "a"),
            ("<main>a<nav>x<nav>y</nav>z</nav>b<aside>w</aside></main>", "a b"),
            ("<ul><li role=navigation>x<li>a</ul>", "a"),
            ("<aside>x<article>y</article></aside>a", "a"),
        ] {
            assert_eq!(main_words(page), words, "{page}");
        }
    }

    #[test]
    fn headers_of_sections_are_main_content() {
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
            assert_eq!(main_words(page), words, "{page}");
        }
    }

    #[test]
    fn unclosed_and_hidden_elements_are_tolerated() {
        for (page, words) in [
            ("<header>x<nav>y<main>a</main>z", "a"),
            ("<article>a<nav>x</article><article>b</article>", "a b"),
            ("<main hidden>x</main>a<main style='display: none'>y</main>", "a"),
            ("<nav hidden>x</nav>a</nav> b", "a b"),
            ("<template><main>x</main></template>a", "a"),
            ("<main>a</nav></aside> b</main></main>x", "a b"),
            ("</main></article></section></header>a", "a"),
            ("<main>a", "a"),
        ] {
            assert_eq!(main_words(page), words, "{page}");
        }
    }

    #[test]
    fn no_word_spans_two_parts() {
        let whole = count_page("a<span role=search>b</span>c", Scope::Page);
        assert_eq!(whole.totals.words, 3);
    }

    #[test]
    fn characters_are_counted_within_the_scope() {
        let page = "<nav>one two</nav><p>a <b>b</b></p><footer>three</footer><p>c";
        let part = count_page(page, Scope::Main).totals;
        assert_eq!((part.characters, part.characters_no_spaces), (5, 3));
        let page = "before<main>a b</main>after";
        let part = count_page(page, Scope::Main).totals;
        assert_eq!((part.characters, part.characters_no_spaces), (3, 2));
    }

    #[test]
    fn plain_text_is_all_main_content() {
        for scope in [Scope::Page, Scope::Main] {
            let options = Options::from(options::Options { scope, ..options::Options::default() });
            let hints = Hints { content_type: Some("text/markdown"), host_tld: None };
            let text = b"# A <nav> mill".chain(&b" turns"[..]);
            let result = count(text, &hints, &options, &|_| true).unwrap();
            assert_eq!(result.totals.words, 4);
            assert_eq!(result.totals_by_scope["page"], 4);
            assert_eq!(result.totals_by_scope["main"], 4);
        }
    }
}
