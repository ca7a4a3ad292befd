//! Segmentation of scripts that are written without spaces, by dictionaries.

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};

use self::{
    lookahead_segmenter::{LookaheadSegmenter, TextEnd},
    script_dictionary::ScriptDictionary,
};
use super::{
    char_class::{CharTable, WritingSystem},
    cjk_segmenter::{CutBuffer, Lexicon},
    stretch::{Segment, Stretch},
    word_sink::WordSink,
};

mod kana_variants;
mod lookahead_segmenter;
mod script_dictionary;

/// Maximum length of a chunk of a run, in bytes. Longer runs are cut in chunks, so that unspaced
/// text of any length takes constant memory.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// Number of bytes at the end of a chunk in which Chinese and Japanese words are not decided yet.
/// They are segmented again together with the next chunk.
///
/// The following text can change the last words: a word can continue in it, and the cheapest paths
/// with and without it can differ for a few words before their first common cut.
const UNDECIDED_TAIL_BYTES: usize = 1024;

/// An unbroken run of letters of one writing system.
pub(super) struct DictionaryRun {
    /// Letters and marks that are not split into words yet.
    text: String,
    /// Start of a word that continues in `text`. Empty unless a word is longer than a chunk.
    open_word: Segment,
    /// Whether the text is in normal form, because all characters are CJK characters that NFC never
    /// changes, see [`is_nfc_stable_cjk`](crate::char_class::CharProperties::is_nfc_stable_cjk).
    is_nfc_stable: bool,
    composer: ComposingNormalizerBorrowed<'static>,
    char_table: CharTable,
    cut_buffer: CutBuffer,
    lookahead_segmenter: LookaheadSegmenter,
}

impl DictionaryRun {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            open_word: Segment::default(),
            is_nfc_stable: true,
            composer: ComposingNormalizer::new_nfc(),
            char_table: CharTable::get(),
            cut_buffer: CutBuffer::default(),
            lookahead_segmenter: LookaheadSegmenter::default(),
        }
    }

    /// Appends letters, or marks on the preceding letter.
    ///
    /// Invisible characters are omitted, because the dictionaries do not contain them.
    pub(super) fn push(
        &mut self,
        stretch: &Stretch<'_>,
        writing: WritingSystem,
        words: &mut WordSink,
    ) {
        if stretch.properties.is_ignorable() {
            return;
        }
        words.add_letters(writing, stretch);
        self.is_nfc_stable &= stretch.properties.is_nfc_stable_cjk();
        let mut rest = stretch.text;
        // Each chunk is filled up, so its end depends only on the run, not on its stretches.
        while let Some((chunk, more)) = rest.split_at_checked(self.fitting_bytes(rest)) {
            self.text.push_str(chunk);
            rest = more;
            if rest.is_empty() {
                break;
            }
            self.add_words(TextEnd::InsideRun, writing, words);
        }
    }

    /// Returns the number of bytes of `text` that fit into the current chunk.
    fn fitting_bytes(&self, text: &str) -> usize {
        text.floor_char_boundary(RUN_BYTES_MAX.saturating_sub(self.text.len()))
    }

    /// Ends the run and adds its remaining words.
    pub(super) fn finish(&mut self, writing: WritingSystem, words: &mut WordSink) {
        self.add_words(TextEnd::Final, writing, words);
        self.text.clear();
        self.is_nfc_stable = true;
    }

    /// Adds the words whose ends are decided, and removes the decided text.
    fn add_words(&mut self, text_end: TextEnd, writing: WritingSystem, words: &mut WordSink) {
        // The dictionaries contain composed characters, for example `が` as one code point.
        if !self.is_nfc_stable && !self.composer.is_normalized(&self.text) {
            self.text = self.composer.normalize(&self.text).into_owned();
        }
        let mut receiver = WordReceiver {
            open_word: std::mem::take(&mut self.open_word),
            is_nfc_stable: self.is_nfc_stable,
            char_table: self.char_table,
            writing,
            words,
        };
        let decided = match (writing, ScriptDictionary::get(writing)) {
            (WritingSystem::ChineseJapanese, _) => {
                self.add_chinese_japanese(text_end, &mut receiver)
            }
            (_, Some(dictionary)) => {
                let decided = self.lookahead_segmenter.segment(&self.text, text_end, dictionary);
                let ends = self.lookahead_segmenter.word_ends().iter().copied();
                let start = receiver.add_words(&self.text, ends, decided);
                receiver.extend_open_word(self.text.get(start..decided));
                decided
            }
            (_, None) => receiver.add_unsegmented(&self.text),
        };
        self.open_word = receiver.open_word;
        self.text.drain(..decided);
    }

    /// Adds Chinese or Japanese words. Returns the number of bytes that are decided.
    fn add_chinese_japanese(
        &mut self,
        text_end: TextEnd,
        receiver: &mut WordReceiver<'_>,
    ) -> usize {
        let text = self.text.as_str();
        let Some(lexicon) = Lexicon::get() else { return receiver.add_unsegmented(text) };
        let end_max = match text_end {
            TextEnd::Final => text.len(),
            TextEnd::InsideRun => text.len().saturating_sub(UNDECIDED_TAIL_BYTES),
        };
        let start = if self.is_nfc_stable {
            lexicon.segment(text, &mut self.cut_buffer);
            receiver.add_words(text, self.cut_buffer.word_ends(text), end_max)
        } else {
            let ends =
                kana_variants::word_ends(lexicon, text, &mut self.cut_buffer, self.char_table);
            receiver.add_words(text, ends.into_iter(), end_max)
        };
        if start > 0 {
            return start;
        }
        // One word fills the chunk. It must be decided, because the run could grow without bound.
        let decided = text.floor_char_boundary(end_max);
        receiver.extend_open_word(text.get(..decided));
        decided
    }
}

/// Receives the words of a run, and passes them to a [`WordSink`].
struct WordReceiver<'w> {
    /// Start of a word that ends in a later text.
    open_word: Segment,
    is_nfc_stable: bool,
    char_table: CharTable,
    writing: WritingSystem,
    words: &'w mut WordSink,
}

impl WordReceiver<'_> {
    /// Adds the words of `text` up to the last one that ends at `end_max` or before. Returns its
    /// end. A mark stays with its letter.
    fn add_words(
        &mut self,
        text: &str,
        ends: impl Iterator<Item = usize>,
        end_max: usize,
    ) -> usize {
        let mut start = 0;
        for end in ends.take_while(|end| *end <= end_max) {
            // The dictionary for Chinese and Japanese cuts unknown text at every character, even
            // before marks. In Thai, a misplaced mark can follow a suffix.
            let next = text.get(end..).and_then(|rest| rest.chars().next());
            if next.is_some_and(|c| self.char_table.of(c).class.is_extending()) {
                continue;
            }
            self.add_word(text.get(start..end).unwrap_or_default());
            start = end;
        }
        start
    }

    /// Adds a text as one word, because its dictionary is missing.
    fn add_unsegmented(&mut self, text: &str) -> usize {
        self.add_word(text);
        text.len()
    }

    /// Adds the last part of a word, which is the whole word unless one is open.
    fn add_word(&mut self, text: &str) {
        if self.open_word.bytes > 0 {
            self.extend_open_word(Some(text));
            let word = std::mem::take(&mut self.open_word);
            if word.is_word {
                self.words.add_dictionary_word(&word.text, word.bytes, self.writing);
                return;
            }
        } else if self.has_word_character(text) {
            self.words.add_dictionary_word(text, text.len(), self.writing);
            return;
        }
        // Signs alone are not a word, and no hyphen joins words across them.
        self.words.separate();
    }

    /// Adds a part of a word that continues after it.
    fn extend_open_word(&mut self, part: Option<&str>) {
        let part = part.unwrap_or_default();
        self.open_word.is_word |= self.has_word_character(part);
        self.open_word.push_text(part, part.len());
    }

    fn has_word_character(&self, text: &str) -> bool {
        // Characters that NFC never changes are letters.
        self.is_nfc_stable || text.chars().any(|c| self.char_table.of(c).is_word_character())
    }
}
