use super::*;
use crate::{char_class::WritingSystem, random::Random};

const THAI_SAMPLE: &str = include_str!("../../../../../docs/samples/thai.txt");

/// Segments a text that arrives in pieces of about `piece_bytes`.
fn segment(text: &str, writing: WritingSystem, piece_bytes: usize) -> Vec<String> {
    let dictionary = ScriptDictionary::get(writing).unwrap();
    let mut segmenter = LookaheadSegmenter::default();
    let mut words = vec![String::new()];
    let mut undecided = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(piece_bytes));
        undecided.push_str(piece);
        rest = after;
        let text_end = if rest.is_empty() { TextEnd::Final } else { TextEnd::InsideRun };
        let decided = segmenter.segment(&undecided, text_end, dictionary);
        let mut start = 0;
        for end in segmenter.word_ends() {
            words.last_mut().unwrap().push_str(undecided.get(start..*end).unwrap());
            words.push(String::new());
            start = *end;
        }
        words.last_mut().unwrap().push_str(undecided.get(start..decided).unwrap());
        undecided.drain(..decided);
    }
    assert_eq!(words.pop().unwrap(), "");
    words
}

fn segment_whole(text: &str, writing: WritingSystem) -> Vec<String> {
    segment(text, writing, text.len())
}

#[test]
fn a_shorter_word_is_chosen_if_two_others_can_follow_it() {
    // `ພາສາ` is a word, too, but no dictionary word follows it.
    assert_eq!(segment_whole("ພາສາເມນູ", WritingSystem::Lao), ["ພາ", "ສາ", "ເມນູ"]);
    assert_eq!(segment_whole("ພາສາລາວ", WritingSystem::Lao), ["ພາສາ", "ລາວ"]);
}

#[test]
fn short_sequences_are_not_split() {
    assert_eq!(segment_whole("มานา", WritingSystem::Thai), ["มานา"]);
    assert_eq!(segment_whole("ມາດ", WritingSystem::Lao), ["ມາດ"]);
}

#[test]
fn marks_of_other_scripts_are_part_of_a_word() {
    let words = segment_whole("ภาษา\u{301}ไทยง่าย", WritingSystem::Thai);
    assert_eq!(words, ["ภาษา\u{301}ไทย", "ง่าย"]);
}

#[test]
fn words_do_not_depend_on_the_pieces_of_the_text() {
    let mut random = Random::new(5);
    let letters: Vec<char> = THAI_SAMPLE.chars().filter(|c| *c >= '\u{e00}').collect();
    for _ in 0..100 {
        let mut text = String::new();
        while text.len() < 4000 {
            let length = 1 + random.below(60);
            let start = random.below(letters.len() - length);
            text.extend(&letters[start..start + length]);
            for _ in 0..random.below(4) {
                text.push(letters[random.below(letters.len())]);
            }
            text.push_str(["", "", "\u{301}", "ๆ", "ฯๆ"][random.below(5)]);
        }
        let whole = segment_whole(&text, WritingSystem::Thai);
        assert!(whole.len() > 100, "{text}");
        let piece_bytes = 1 + random.below(1500);
        assert_eq!(segment(&text, WritingSystem::Thai, piece_bytes), whole, "{piece_bytes} {text}");
    }
}
