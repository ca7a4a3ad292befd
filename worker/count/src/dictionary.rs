//! Segmentation of scripts that are written without spaces, by dictionaries.

use std::sync::LazyLock;

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed, options::WordBreakInvariantOptions};

use super::{
    char_class::{CharTable, WritingSystem},
    cjk_segmenter::{CutBuffer, Lexicon},
    stretch::Stretch,
    word_sink::WordSink,
};

/// Maximum length of a chunk of a run, in bytes. Longer runs are cut in chunks, so that unspaced
/// text of any length takes constant memory.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// Number of bytes at the end of a chunk in which the words are not decided yet. They are segmented
/// again together with the next chunk.
///
/// The following text can change the last words: a word can continue in it, and the cheapest paths
/// with and without it can differ for a few words before their first common cut.
const UNDECIDED_TAIL_BYTES: usize = 1024;

/// Returns the dictionaries of `icu_segmenter`, loaded once per process. Few documents need them.
fn icu_segmenter() -> WordSegmenterBorrowed<'static> {
    static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
        LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));
    *SEGMENTER
}

/// An unbroken run of letters of one writing system.
pub(super) struct DictionaryRun {
    /// Letters and marks that are not split into words yet.
    text: String,
    /// Whether the text is in normal form, because all characters are CJK characters that NFC never
    /// changes, see [`is_nfc_stable_cjk`](crate::char_class::CharProperties::is_nfc_stable_cjk).
    is_nfc_stable: bool,
    composer: ComposingNormalizerBorrowed<'static>,
    char_table: CharTable,
    cut_buffer: CutBuffer,
}

impl DictionaryRun {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            is_nfc_stable: true,
            composer: ComposingNormalizer::new_nfc(),
            char_table: CharTable::get(),
            cut_buffer: CutBuffer::default(),
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
            let end = self.add_complete_words(UNDECIDED_TAIL_BYTES, writing, words);
            self.text.drain(..end);
        }
    }

    /// Returns the number of bytes of `text` that fit into the current chunk.
    fn fitting_bytes(&self, text: &str) -> usize {
        text.floor_char_boundary(RUN_BYTES_MAX.saturating_sub(self.text.len()))
    }

    /// Ends the run and adds its remaining words.
    pub(super) fn finish(&mut self, writing: WritingSystem, words: &mut WordSink) {
        self.add_complete_words(0, writing, words);
        self.text.clear();
        self.is_nfc_stable = true;
    }

    /// Adds the words that end before the last `undecided_bytes` bytes. Returns the end of the last
    /// one.
    fn add_complete_words(
        &mut self,
        undecided_bytes: usize,
        writing: WritingSystem,
        words: &mut WordSink,
    ) -> usize {
        // The dictionaries contain composed characters, for example `が` as one code point.
        if !self.is_nfc_stable {
            self.compose();
        }
        match Lexicon::get().filter(|_| writing == WritingSystem::ChineseJapanese) {
            Some(lexicon) => {
                lexicon.segment(&self.text, &mut self.cut_buffer);
                self.add_words(
                    self.cut_buffer.word_ends(&self.text),
                    undecided_bytes,
                    writing,
                    words,
                )
            }
            None => self.add_words(
                icu_segmenter().segment_str(&self.text),
                undecided_bytes,
                writing,
                words,
            ),
        }
    }

    fn compose(&mut self) {
        if !self.composer.is_normalized(&self.text) {
            self.text = self.composer.normalize(&self.text).into_owned();
        }
    }

    /// Adds the words up to the first one that ends in the last `undecided_bytes` bytes.
    ///
    /// A mark stays with its letter. If no word ends before these bytes, the whole text is added
    /// as one word. Otherwise the run could grow without bound.
    fn add_words(
        &self,
        ends: impl Iterator<Item = usize>,
        undecided_bytes: usize,
        writing: WritingSystem,
        words: &mut WordSink,
    ) -> usize {
        let end_max = self.text.len().saturating_sub(undecided_bytes);
        let mut start = 0;
        for end in ends {
            if end > end_max {
                break;
            }
            // The segmenter cuts unknown words at every character, even before marks.
            let next = self.text.get(end..).and_then(|rest| rest.chars().next());
            if next.is_some_and(|c| self.char_table.of(c).class.is_extending()) {
                continue;
            }
            if let Some(word) = self.text.get(start..end).filter(|word| !word.is_empty()) {
                words.add_dictionary_word(word, writing);
            }
            start = end;
        }
        if start == 0 && !self.text.is_empty() {
            words.add_dictionary_word(&self.text, writing);
            start = self.text.len();
        }
        start
    }
}
