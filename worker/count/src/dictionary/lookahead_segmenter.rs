//! Segmentation of Thai, Lao, Khmer and Burmese with dictionaries, as in ICU for C and Java.
//!
//! A run is split from left to right. Of the dictionary words that begin at a position, the longest
//! one is chosen after which two more words can follow. Text between dictionary words, such as a
//! foreign name, is one word. It is joined with a word of one or two letters before it, which is
//! probably a part of it. The Thai marks `ๆ` and `ฯ` are suffixes: `ไปๆมาๆ` is `ไปๆ` and `มาๆ`.
//!
//! `icu_segmenter` has the same dictionaries, but chooses the longest word at each position and
//! splits unknown text into letters.
//!
//! A decision depends only on the next [`LOOKAHEAD_LETTERS`], so a run may arrive in several texts.
//! Words have any length: unknown text and marks are processed letter by letter ([`Phase`]).

use super::script_dictionary::{Candidates, Letter, ScriptDictionary, WORD_LETTERS_MAX};

/// Unknown text is joined with the dictionary word before it if that word has fewer letters, and if
/// fewer letters of the text show that no dictionary word begins with it.
const JOINED_WORD_LETTERS: usize = 3;

/// Number of letters after a position on which the decisions at this position depend: three words
/// and the letter after them.
const LOOKAHEAD_LETTERS: usize = 3 * WORD_LETTERS_MAX + 1;

/// Number of positions whose candidates are stored, because several decisions need them.
const CACHE_LEN: usize = 32;

/// Whether the end of a text is also the end of its run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TextEnd {
    /// The run ends here.
    Final,
    /// The run continues in the next text.
    InsideRun,
}

/// Position of the segmenter in a run.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// Before a sequence of letters of the script, or before a foreign mark.
    #[default]
    Outside,
    /// At the start of a word, inside a sequence of letters.
    WordStart,
    /// Inside unknown text, before one of its letters.
    Unknown,
    /// After the letters of a word, before its remaining marks and its suffixes.
    WordTail,
}

/// Segments runs of one script. Reused for the next run, to save allocations.
#[derive(Default)]
pub(super) struct LookaheadSegmenter {
    phase: Phase,
    /// Last letter before the text, or before the current position.
    previous: Option<Letter>,
    letters: Vec<Letter>,
    word_ends: Vec<usize>,
    /// Candidates with their positions, each at the index `position % CACHE_LEN`.
    cache: Vec<(usize, Candidates)>,
}

impl LookaheadSegmenter {
    /// Returns the ends of the words that end in the last text, in bytes.
    pub(super) fn word_ends(&self) -> &[usize] {
        &self.word_ends
    }

    /// Segments the next text of a run. Returns the number of bytes that are decided: the next text
    /// must begin with the others. The decided text can end inside a word.
    pub(super) fn segment(
        &mut self,
        text: &str,
        text_end: TextEnd,
        dictionary: &ScriptDictionary,
    ) -> usize {
        self.letters.clear();
        self.letters.extend(text.chars().map(|c| dictionary.letter(c)));
        self.cache.clear();
        self.cache.resize(CACHE_LEN, (usize::MAX, Candidates::NONE));
        self.word_ends.clear();
        let decided_end = match text_end {
            TextEnd::Final => self.letters.len(),
            TextEnd::InsideRun => self.letters.len().saturating_sub(LOOKAHEAD_LETTERS),
        };
        let mut position = 0;
        // End of the sequence of letters and marks of the script that contains `position`.
        let mut sequence_end = 0;
        while position < decided_end {
            if position >= sequence_end {
                sequence_end = self.end_of_sequence(position);
            }
            position = self.advance(position, sequence_end, dictionary);
        }
        if text_end == TextEnd::Final {
            self.word_ends.push(position);
            self.phase = Phase::Outside;
        }
        self.convert_to_bytes(text, position)
    }

    /// Returns the end of the sequence of letters and marks of the script at `start`.
    fn end_of_sequence(&self, start: usize) -> usize {
        let rest = self.letters.iter().skip(start);
        start.saturating_add(rest.take_while(|letter| letter.has(Letter::OF_SCRIPT)).count())
    }

    /// Processes the next part of a word. Records the end of the word if it ends with this part.
    /// Returns the position after the part. The end of a sequence is not the end of a word, because
    /// a foreign mark or the end of the run follows.
    fn advance(
        &mut self,
        start: usize,
        sequence_end: usize,
        dictionary: &ScriptDictionary,
    ) -> usize {
        let mut position = start;
        match self.phase {
            Phase::Outside if start == sequence_end => position = start.saturating_add(1),
            Phase::Outside => {
                if sequence_end.saturating_sub(start) <= dictionary.undivided_letters_max {
                    position = sequence_end;
                } else {
                    self.phase = Phase::WordStart;
                }
            }
            Phase::WordStart => {
                let length = self.choose_word(start, sequence_end, dictionary);
                position = start.saturating_add(length);
                self.phase = if self.is_before_unknown(position, length, sequence_end, dictionary) {
                    Phase::Unknown
                } else {
                    Phase::WordTail
                };
            }
            Phase::Unknown => {
                position = start.saturating_add(1);
                if position >= sequence_end || self.can_resume(position, sequence_end, dictionary) {
                    self.phase = Phase::WordTail;
                }
            }
            Phase::WordTail if self.is_mark(start) => position = start.saturating_add(1),
            Phase::WordTail => {
                position =
                    start.saturating_add(self.suffix_length(start, sequence_end, dictionary));
                self.phase = Phase::Outside;
                if position < sequence_end {
                    self.phase = Phase::WordStart;
                    self.word_ends.push(position);
                }
            }
        }
        if position > start {
            self.previous = position.checked_sub(1).and_then(|last| self.letter(last));
        }
        position
    }

    /// Returns the number of letters of the best dictionary word at a position; 0 if there is none.
    fn choose_word(&mut self, start: usize, end: usize, dictionary: &ScriptDictionary) -> usize {
        let first_words = self.candidates(start, end, dictionary);
        let mut best = first_words.longest();
        if first_words.count <= 1 || start.saturating_add(best) >= end {
            return best;
        }
        for length in first_words.longest_first() {
            let second_start = start.saturating_add(length);
            let second_words = self.candidates(second_start, end, dictionary);
            if second_words.is_empty() {
                continue;
            }
            best = length;
            // Two words that reach the end are as good as three.
            if second_start.saturating_add(second_words.longest()) >= end {
                return best;
            }
            for second_length in second_words.longest_first() {
                let third_start = second_start.saturating_add(second_length);
                if !self.candidates(third_start, end, dictionary).is_empty() {
                    return best;
                }
            }
        }
        best
    }

    /// Returns whether unknown text begins at `start` that belongs to the dictionary word before
    /// it. `length` is the number of letters of that word, or 0 without one.
    fn is_before_unknown(
        &mut self,
        start: usize,
        length: usize,
        end: usize,
        dictionary: &ScriptDictionary,
    ) -> bool {
        if start >= end || length >= JOINED_WORD_LETTERS {
            return false;
        }
        let candidates = self.candidates(start, end, dictionary);
        let is_similar = usize::from(candidates.letters_read) >= JOINED_WORD_LETTERS;
        candidates.is_empty() && (length == 0 || !is_similar)
    }

    /// Returns whether unknown text ends before `position`, because a dictionary word begins there.
    fn can_resume(&mut self, position: usize, end: usize, dictionary: &ScriptDictionary) -> bool {
        let last = position.checked_sub(1).and_then(|last| self.letter(last));
        last.is_some_and(|letter| letter.has(Letter::ENDS_WORD))
            && self.letter(position).is_some_and(|letter| letter.has(Letter::BEGINS_WORD))
            && !self.candidates(position, end, dictionary).is_empty()
    }

    /// Returns the number of suffixes at a position: `ฯ`, `ๆ` or `ฯๆ`, unless a dictionary word
    /// begins with them. A suffix is not repeated.
    fn suffix_length(&mut self, start: usize, end: usize, dictionary: &ScriptDictionary) -> usize {
        let has = |letter: Option<Letter>, flag| letter.is_some_and(|letter| letter.has(flag));
        let mut next = self.letter(start).filter(|_| start < end);
        if !has(next, Letter::ABBREVIATION | Letter::REPETITION)
            || !self.candidates(start, end, dictionary).is_empty()
        {
            return 0;
        }
        let mut previous = self.previous;
        let mut length = 0_usize;
        if has(next, Letter::ABBREVIATION)
            && !has(previous, Letter::ABBREVIATION | Letter::REPETITION)
        {
            length = 1;
            previous = next;
            next = self.letter(start.saturating_add(1));
        }
        if has(next, Letter::REPETITION) && !has(previous, Letter::REPETITION) {
            length = length.saturating_add(1);
        }
        length
    }

    fn letter(&self, position: usize) -> Option<Letter> {
        self.letters.get(position).copied()
    }

    fn is_mark(&self, position: usize) -> bool {
        self.letter(position).is_some_and(|letter| letter.has(Letter::MARK))
    }

    /// Returns the dictionary words that begin at `start` and end before `end`.
    fn candidates(
        &mut self,
        start: usize,
        end: usize,
        dictionary: &ScriptDictionary,
    ) -> Candidates {
        let letters = self.letters.get(start..end).unwrap_or_default();
        match self.cache.get_mut(start.wrapping_rem(CACHE_LEN)) {
            Some((position, candidates)) => {
                if *position != start {
                    *position = start;
                    *candidates = dictionary.candidates(letters);
                }
                *candidates
            }
            None => dictionary.candidates(letters),
        }
    }

    /// Converts the ends of words from letters to bytes, and also returns `decided_end` in bytes.
    fn convert_to_bytes(&mut self, text: &str, decided_end: usize) -> usize {
        let mut rest = text;
        let mut letters = 0;
        let mut bytes_before = |end: usize| {
            let count = end.saturating_sub(letters);
            letters = end;
            let bytes = rest.char_indices().nth(count).map_or(rest.len(), |(at, _)| at);
            rest = rest.get(bytes..).unwrap_or_default();
            text.len().saturating_sub(rest.len())
        };
        for end in &mut self.word_ends {
            *end = bytes_before(*end);
        }
        bytes_before(decided_end)
    }
}

#[cfg(test)]
mod tests;
