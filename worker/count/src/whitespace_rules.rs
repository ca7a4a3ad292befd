//! Rules that separate words at white space: `whitespace` and `office`.

use super::{
    char_class::Class,
    stretch::{Segment, Stretch},
    word_sink::{Listing, WordSink},
};

/// The open word by the rule `office`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum OfficeToken {
    #[default]
    None,
    /// A character that is a word by itself, for example `水`. Only marks can extend it.
    SingleCharacter,
    Word,
}

/// Counts words by the rules `whitespace` and `office`, and collects those of the listed rule.
#[derive(Default)]
pub(super) struct WhitespaceRules {
    is_in_word: bool,
    office_token: OfficeToken,
    /// The open word of the listed rule.
    word: Segment,
}

impl WhitespaceRules {
    /// Adds the next stretch of the text.
    pub(super) fn push(&mut self, stretch: &Stretch<'_>, words: &mut WordSink) {
        if stretch.properties.is_space() {
            self.end(words);
            return;
        }
        if !self.is_in_word {
            self.is_in_word = true;
            words.sums.whitespace = words.sums.whitespace.saturating_add(1);
        }
        if words.listing == Listing::Whitespace {
            self.word.push(stretch);
        }
        self.push_office(stretch, words);
    }

    /// Ends the open word.
    pub(super) fn end(&mut self, words: &mut WordSink) {
        if words.listing == Listing::Whitespace {
            self.list(Listing::Whitespace, words);
        }
        self.end_office(words);
        self.is_in_word = false;
    }

    fn push_office(&mut self, stretch: &Stretch<'_>, words: &mut WordSink) {
        let is_listed = words.listing == Listing::Office;
        let class = stretch.properties.class;
        if matches!(class, Class::Han | Class::Kana | Class::KanaSign) {
            words.sums.office = words.sums.office.saturating_add(stretch.characters);
            if is_listed {
                for c in stretch.text.chars() {
                    // List the open word first, including each earlier character of this stretch.
                    self.end_office(words);
                    let mut bytes = [0; 4];
                    let text = c.encode_utf8(&mut bytes);
                    self.word.push(&Stretch {
                        text,
                        characters: 1,
                        properties: stretch.properties,
                    });
                }
            }
            self.office_token = OfficeToken::SingleCharacter;
            return;
        }
        if self.office_token == OfficeToken::SingleCharacter && !class.is_extending() {
            self.end_office(words);
        }
        if self.office_token == OfficeToken::None {
            self.office_token = OfficeToken::Word;
            words.sums.office = words.sums.office.saturating_add(1);
        }
        if is_listed {
            self.word.push(stretch);
        }
    }

    fn end_office(&mut self, words: &mut WordSink) {
        if words.listing == Listing::Office {
            self.list(Listing::Office, words);
        }
        self.office_token = OfficeToken::None;
    }

    fn list(&mut self, listing: Listing, words: &mut WordSink) {
        if self.word.bytes > 0 {
            words.list(listing, &self.word.text, self.word.bytes);
            self.word.clear();
        }
    }
}
