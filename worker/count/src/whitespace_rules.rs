//! The rules that go by white space.

use super::{
    char_class::Class,
    stretch::{Segment, Stretch},
    word_sink::{Listing, Words},
};

/// What the rule `office` has open.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum OpenToken {
    #[default]
    Nothing,
    /// A character that is a word by itself: only marks can follow.
    Alone,
    Word,
}

/// Counts by the rules `whitespace` and `office`, and keeps the text of the one that is listed.
#[derive(Default)]
pub(super) struct Spacing {
    in_word: bool,
    open: OpenToken,
    text: Segment,
}

impl Spacing {
    /// Takes what comes next in the text.
    pub(super) fn push(&mut self, stretch: &Stretch<'_>, words: &mut Words) {
        if stretch.kind.is_space() {
            self.end(words);
            return;
        }
        if !self.in_word {
            self.in_word = true;
            words.sums.whitespace = words.sums.whitespace.saturating_add(1);
        }
        if words.listing == Listing::Spaced {
            self.text.push(stretch);
        }
        self.push_office(stretch, words);
    }

    /// Ends the open word.
    pub(super) fn end(&mut self, words: &mut Words) {
        if words.listing == Listing::Spaced {
            self.list(Listing::Spaced, words);
        }
        self.end_office(words);
        self.in_word = false;
    }

    fn push_office(&mut self, stretch: &Stretch<'_>, words: &mut Words) {
        let is_listed = words.listing == Listing::Office;
        let class = stretch.kind.class;
        if matches!(class, Class::Han | Class::Kana) {
            words.sums.office = words.sums.office.saturating_add(stretch.characters);
            if is_listed {
                for c in stretch.text.chars() {
                    self.end_office(words);
                    let mut bytes = [0; 4];
                    let text = c.encode_utf8(&mut bytes);
                    self.text.push(&Stretch { text, characters: 1, kind: stretch.kind });
                }
            }
            self.open = OpenToken::Alone;
            return;
        }
        if self.open == OpenToken::Alone && !class.extends() {
            self.end_office(words);
        }
        if self.open == OpenToken::Nothing {
            self.open = OpenToken::Word;
            words.sums.office = words.sums.office.saturating_add(1);
        }
        if is_listed {
            self.text.push(stretch);
        }
    }

    fn end_office(&mut self, words: &mut Words) {
        if words.listing == Listing::Office {
            self.list(Listing::Office, words);
        }
        self.open = OpenToken::Nothing;
    }

    fn list(&mut self, listing: Listing, words: &mut Words) {
        if self.text.bytes > 0 {
            words.list(listing, &self.text.text, self.text.bytes);
            self.text.clear();
        }
    }
}
