//! Tests the sums of plain text and of pages, by every rule, on the fast and the slow path.

use wordmill_common::{explanation::Reason, options};

use super::*;
use crate::TextCount;
use crate::random::Random;

fn new_counter() -> Counter {
    Counter::new(&Options::default())
}

fn count_characters(counter: Counter) -> (u64, u64) {
    let totals = counter.finish().unwrap().totals;
    (totals.characters, totals.characters_no_spaces)
}

#[test]
fn plain_text_counts_every_character() {
    let mut counter = new_counter();
    counter.add_plain_text(" a\r\n\u{a0}é\t");
    assert_eq!(count_characters(counter), (7, 2));
}

#[test]
fn white_space_in_a_page_is_counted_once_between_words() {
    let mut counter = new_counter();
    counter.separate();
    counter.add_page_text("\n  a \n");
    counter.separate();
    counter.add_page_text("\t b\u{a0}");
    counter.add_page_text("c\0 ");
    counter.separate();
    assert_eq!(count_characters(counter), (5, 3));
}

#[test]
fn a_separator_ends_a_word() {
    let mut counter = new_counter();
    for half in ["mill", "stone", "don'", "t", "東", "京"] {
        counter.add_page_text(half);
        counter.separate();
    }
    let text_count = counter.finish().unwrap();
    assert_eq!((text_count.totals.words, text_count.totals.unique_words), (6, 6));
    assert_eq!(text_count.totals_by_rule["whitespace"], 6);
}

fn count_plain_text(text: &str, job_options: options::Options) -> TextCount {
    let mut counter = Counter::new(&Options::from(job_options));
    counter.add_plain_text(text);
    counter.finish().unwrap()
}

fn options_by(rule: RuleName) -> options::Options {
    options::Options { rule, ..options::Options::default() }
}

fn list_words(text: &str, job_options: options::Options) -> Vec<(String, u64)> {
    let text_count = count_plain_text(text, job_options);
    let mut words: Vec<_> =
        text_count.histogram.iter().map(|(word, n)| (word.to_owned(), n)).collect();
    words.sort_unstable();
    words
}

fn expected_words(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect()
}

#[test]
fn every_rule_lists_its_own_words() {
    let text = "Well-known, 東京タワー! don\u{2019}t\u{a0}panic — 한국어 ภาษาไทย";
    let spaced = [("don't", 1), ("panic", 1), ("well-known,", 1), ("—", 1)];
    let common = [("ภาษาไทย", 1), ("한국어", 1)];
    let mut whitespace = expected_words(&[&spaced[..], &common, &[("東京タワー!", 1)]].concat());
    whitespace.sort_unstable();
    assert_eq!(list_words(text, options_by(RuleName::Whitespace)), whitespace);
    let alone = [("東", 1), ("京", 1), ("タ", 1), ("ワ", 1), ("ー", 1), ("!", 1)];
    let mut office = expected_words(&[&spaced[..], &common, &alone].concat());
    office.sort_unstable();
    assert_eq!(list_words(text, options_by(RuleName::Office)), office);
    assert_eq!(
        list_words(text, options_by(RuleName::Gmx)),
        list_words(text, options_by(RuleName::Unicode))
    );
}

#[test]
fn all_rules_count_with_any_listing() {
    let text = "Well-known, 東京タワー! don\u{2019}t\u{a0}panic — 한국어 ภาษาไทย _ 12는";
    let expected = count_plain_text(text, options_by(RuleName::Unicode)).totals_by_rule;
    // well known 東京タワー don't panic 한국어 ภาษา ไทย 12는
    assert_eq!(expected["unicode"], 9);
    assert_eq!(expected["whitespace"], 9);
    assert_eq!(expected["office"], 9 - 1 + 6);
    // 5 Japanese characters, 3 + 3 of Korean words, 7 of Thai.
    assert_eq!(expected["gmx"], 4 + 2 + 2 + 2);
    for rule in RuleName::ALL {
        let text_count = count_plain_text(text, options_by(rule));
        assert_eq!(text_count.totals_by_rule, expected, "{rule:?}");
        assert_eq!(text_count.totals.words, expected[rule.as_str()], "{rule:?}");
    }
}

#[test]
fn options_change_the_listed_words() {
    let text = "The mother-in-law's well-known 2nd 1,000 — a-- b -c x-1 x\u{2010}1 THE";
    let options_with = |change: fn(&mut options::Options)| {
        let mut options = options::Options::default();
        change(&mut options);
        options
    };
    let joined = list_words(text, options_with(|options| options.hyphen = Hyphen::Join));
    let expected = [
        ("1,000", 1),
        ("2nd", 1),
        ("a", 1),
        ("b", 1),
        ("c", 1),
        ("mother-in-law's", 1),
        ("the", 2),
        ("well-known", 1),
        ("x-1", 2),
    ];
    assert_eq!(joined, expected_words(&expected));
    let without =
        count_plain_text(text, options_with(|options| options.numbers = options::Numbers::Skip));
    assert_eq!(without.totals.words + 3, without.totals_by_rule["unicode"]);
    let without = options_with(|options| {
        options.stop_words = vec!["THE".to_owned()].try_into().unwrap();
    });
    assert!(list_words(text, without).iter().all(|(word, _)| word != "the"));
    let long = list_words(text, options_with(|options| options.min_len = 4.0.try_into().unwrap()));
    assert_eq!(
        long,
        expected_words(&[("1,000", 1), ("known", 1), ("law's", 1), ("mother", 1), ("well", 1)])
    );
}

/// Parts of random texts. Most are ASCII, so that both paths are tested.
const PARTS: &[&str] = &[
    "mill",
    "River",
    "don't",
    "x_1",
    "__",
    "3.14",
    "1,000",
    "a.b",
    "e:f",
    "-",
    "--",
    ".",
    "'",
    "(",
    " ",
    " ",
    " ",
    "\n",
    "\t",
    "\u{b}",
    "\u{a0}",
    "\u{3000}",
    "é",
    "Straße",
    "мельница",
    "東京",
    "カフェ",
    "人々",
    "한국",
    "ภาษาไทย",
    "ברא\"ש",
    "\u{301}",
    "\u{200d}",
    "❤",
    "ℹ",
    "\u{ad}",
    "\0",
    "a\u{2019}b",
    "averyveryverylongword",
    "supercalifragilisticexpialidocioussupercalifragilisticexpialidocious",
];

fn random_text(random: &mut Random, parts: usize) -> String {
    let is_mostly_ascii = random.below(2) == 0;
    let part = |random: &mut Random| loop {
        let part = PARTS[random.below(PARTS.len())];
        if !is_mostly_ascii || part.is_ascii() || random.below(30) == 0 {
            return part;
        }
    };
    (0..parts).map(|_| part(random)).collect()
}

/// An explained count takes the slow path throughout, and the fast path must not differ.
#[test]
fn fast_path_and_slow_path_agree() {
    let mut random = Random::new(17);
    for turn in 0..4000 {
        let length = 1 + random.below(60);
        let text = random_text(&mut random, length);
        let rule = RuleName::ALL[turn % RuleName::ALL.len()];
        let fast = count_plain_text(&text, options_by(rule));
        let mut slow =
            count_plain_text(&text, options::Options { explain: true, ..options_by(rule) });
        let explanation = slow.explanation.take();
        assert_eq!(fast, slow, "{text:?}");
        assert!(explanation.is_some() && fast.explanation.is_none());
    }
}

#[test]
fn the_count_does_not_depend_on_chunks() {
    let mut random = Random::new(23);
    for turn in 0..12 {
        // More than a buffer, and sometimes without white space.
        let mut text = random_text(&mut random, 30_000);
        if turn % 3 == 0 {
            text.retain(|c| !c.is_whitespace());
        }
        let job_options =
            options::Options { explain: turn % 4 == 0, ..options_by(RuleName::ALL[turn % 4]) };
        let whole = count_plain_text(&text, job_options.clone());
        let mut counter = Counter::new(&Options::from(job_options));
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let size = rest.floor_char_boundary(4 + random.below(9000));
            let (chunk, tail) = rest.split_at(size);
            counter.add_plain_text(chunk);
            rest = tail;
        }
        assert_eq!(counter.finish().unwrap(), whole);
    }
}

#[test]
fn the_scope_main_counts_only_the_main_content() {
    let page = |scope| {
        let job_options = options::Options { scope, ..options::Options::default() };
        let mut counter = Counter::new(&Options::from(job_options));
        counter.add_page_text("a start");
        counter.restart_main();
        counter.add_page_text("the mill");
        counter.set_region(Region::Boilerplate);
        counter.add_page_text("home about help");
        counter.set_region(Region::Main);
        counter.add_page_text("river");
        counter.finish().unwrap()
    };
    let whole = page(Scope::Page);
    let main = page(Scope::Main);
    for text_count in [&whole, &main] {
        assert_eq!(text_count.totals_by_scope["page"], 8);
        assert_eq!(text_count.totals_by_scope["main"], 3);
    }
    assert_eq!((whole.totals.words, main.totals.words), (8, 3));
    assert_eq!((whole.totals.unique_words, main.totals.unique_words), (8, 3));
    assert_eq!((whole.totals.characters, main.totals.characters), (38, 14));
    assert_eq!(main.totals_by_rule["whitespace"], 3);
}

#[test]
fn the_declared_language_is_used_unless_the_options_name_another() {
    let gmx_count = |language: Option<&str>| {
        let language = language.map(|tag| Language::try_from(tag.to_owned()).unwrap());
        let job_options = options::Options { language, ..options_by(RuleName::Gmx) };
        let mut counter = Counter::new(&Options::from(job_options));
        counter.set_declared_language("ko-KR");
        counter.add_page_text(&"東".repeat(84));
        counter.finish().unwrap().totals.words
    };
    assert_eq!(gmx_count(None), 26);
    assert_eq!(gmx_count(Some("zh")), 30);
    assert_eq!(gmx_count(Some("ja-JP")), 28);
}

#[test]
fn an_explanation_names_the_differences() {
    let job_options = options::Options { explain: true, ..options::Options::default() };
    let mut counter = Counter::new(&Options::from(job_options));
    counter.add_page_text("the well-known mill — a well-known river, 東京 and 한국");
    counter.record_dropped(DropReason::Scripts, "seven()");
    counter.record_dropped(DropReason::Scripts, "five!");
    let explanation = counter.finish().unwrap().explanation.unwrap();
    assert_eq!(explanation.dropped_bytes["scripts"], 12);
    let tokens = explanation.largest_differences(RuleName::Whitespace, RuleName::Unicode);
    let tokens: Vec<_> =
        tokens.iter().map(|token| (token.token.as_str(), token.count, token.reason)).collect();
    let expected = [("well-known", 2, Reason::SignsInside), ("—", 1, Reason::NoLetterOrDigit)];
    assert_eq!(tokens, expected);
    let samples = &explanation.tokens[0].samples;
    assert_eq!(samples[0].before, "the ");
    assert_eq!(samples[0].after, " mill — a well-known river, 東京 and 한국");
    let tokens = explanation.largest_differences(RuleName::Unicode, RuleName::Gmx);
    let tokens: Vec<_> =
        tokens.iter().map(|token| (token.token.as_str(), token.words[&RuleName::Gmx])).collect();
    assert_eq!(tokens, [("한국", 0.61), ("東京", 0.71)]);
}

#[test]
fn an_explanation_is_bounded() {
    let job_options = options::Options { explain: true, ..options::Options::default() };
    let text: String = (0..30_000).map(|n| format!("{n}-{n} ")).collect();
    let giant = "-ab".repeat(50_000);
    let explanation = count_plain_text(&(text + &giant), job_options).explanation.unwrap();
    assert!(explanation.tokens.len() <= 300);
    assert!(serde_json::to_vec(&explanation).unwrap().len() < 400_000);
}

#[test]
fn a_token_that_fills_the_buffer_is_counted_completely() {
    // Found by fuzzing: after white space at the start of the buffer, its content was lost.
    for before in ["", " ", "é ", "é\n", "é  "] {
        for length in [65_534, 65_535, 65_536, 70_000, 200_000] {
            let text = format!("{before}{} b", "a-".repeat(length / 2));
            let totals = |explain| {
                let options = options::Options { explain, ..options::Options::default() };
                let counted = count_plain_text(&text, options);
                (counted.totals, counted.totals_by_rule)
            };
            let (fast, fast_by_rule) = totals(false);
            let characters = u64::try_from(text.chars().count()).unwrap();
            assert_eq!(fast.characters, characters, "{before:?} {length}");
            assert_eq!((fast, fast_by_rule), totals(true), "{before:?} {length}");
        }
    }
}
