//! Segmentation of Chinese and Japanese text with signs and letters that the dictionary does not
//! contain, but ICU segments: signs such as `゛`, and variants of letters such as `ｶﾞ`.

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};

use crate::{
    char_class::{CharTable, Class},
    cjk_segmenter::{CutBuffer, Lexicon},
};

/// Returns the ends of the words in `text`, in bytes.
///
/// As in ICU, a sign such as `゛` belongs to the letters on both sides: the dictionary segments only
/// the letters between two signs. So `あ゛あ゛っ` is one word. Sound marks (`ー`) after a sign are also
/// signs.
pub(super) fn word_ends(
    lexicon: &Lexicon,
    text: &str,
    cut_buffer: &mut CutBuffer,
    char_table: CharTable,
) -> Vec<usize> {
    let composer = ComposingNormalizer::new_nfkc();
    let is_sign = |c| char_table.of(c).class == Class::KanaSign;
    let mut ends = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let start = text.len().saturating_sub(rest.len());
        let letters_end = rest.find(is_sign).unwrap_or(rest.len());
        let (letters, after) = rest.split_at_checked(letters_end).unwrap_or((rest, ""));
        let mut add_end = |end: usize| {
            // The end of the letters is the end of a word only at the end of the text.
            if end < letters.len() {
                ends.push(start.saturating_add(end));
            }
        };
        if composer.is_normalized(letters) {
            lexicon.segment(letters, cut_buffer);
            cut_buffer.word_ends(letters).for_each(&mut add_end);
        } else {
            let usual = UsualLetters::of(letters, char_table, &composer);
            lexicon.segment(&usual.text, cut_buffer);
            usual.original_ends(cut_buffer.word_ends(&usual.text)).for_each(&mut add_end);
        }
        rest = after.trim_start_matches(|c| is_sign(c) || matches!(c, 'ー' | 'ｰ'));
    }
    ends.push(text.len());
    ends
}

/// A text whose variants of letters are replaced with the usual letters (NFKC): `ｶﾞ` with `ガ`.
struct UsualLetters {
    text: String,
    /// End of each letter with its marks, in `text` and in the original text.
    letter_ends: Vec<(usize, usize)>,
}

impl UsualLetters {
    fn of(
        original: &str,
        char_table: CharTable,
        composer: &ComposingNormalizerBorrowed<'static>,
    ) -> Self {
        let mut text = String::new();
        let mut letter_ends = Vec::new();
        let mut rest = original;
        while !rest.is_empty() {
            let next_letter = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| !char_table.of(*c).class.is_extending())
                .map_or(rest.len(), |(at, _)| at);
            let (letter, after) = rest.split_at_checked(next_letter).unwrap_or((rest, ""));
            text.push_str(&composer.normalize(letter));
            rest = after;
            letter_ends.push((text.len(), original.len().saturating_sub(rest.len())));
        }
        Self { text, letter_ends }
    }

    /// Converts ends of words in `text` to the original text. A letter such as `ヿ`, which becomes
    /// `コト`, can have an end inside. It is moved before the letter, as in ICU.
    fn original_ends(&self, ends: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
        let mut letter_ends = self.letter_ends.iter().peekable();
        let mut original = 0;
        ends.filter_map(move |end| {
            let before = original;
            while let Some((_, next)) = letter_ends.next_if(|(usual, _)| *usual <= end) {
                original = *next;
            }
            (original > before).then_some(original)
        })
    }
}
