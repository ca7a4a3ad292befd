//! Sums of plain and of flowing text, by every rule, whatever way the text goes.

use wordmill_common::{explanation::Reason, options};

use super::*;
use crate::random::Random;

fn tally() -> Counter {
    Counter::new(&Options::default())
}

fn characters(tally: Counter) -> (u64, u64) {
    let totals = tally.finish().unwrap().totals;
    (totals.characters, totals.characters_no_spaces)
}

#[test]
fn plain_text_counts_every_character() {
    let mut tally = tally();
    tally.add_plain(" a\r\n\u{a0}é\t");
    assert_eq!(characters(tally), (7, 2));
}

#[test]
fn white_space_of_a_page_counts_once_between_text() {
    let mut tally = tally();
    tally.boundary();
    tally.add_flowing("\n  a \n");
    tally.boundary();
    tally.add_flowing("\t b\u{a0}");
    tally.add_flowing("c\0 ");
    tally.boundary();
    assert_eq!(characters(tally), (5, 3));
}

#[test]
fn a_boundary_separates() {
    let mut tally = tally();
    for half in ["mill", "stone", "don'", "t", "東", "京"] {
        tally.add_flowing(half);
        tally.boundary();
    }
    let tallied = tally.finish().unwrap();
    assert_eq!((tallied.totals.words, tallied.totals.unique_words), (6, 6));
    assert_eq!(tallied.totals_by_rule["whitespace"], 6);
}

fn tallied(text: &str, asked: options::Options) -> TextCount {
    let mut tally = Counter::new(&Options::from(asked));
    tally.add_plain(text);
    tally.finish().unwrap()
}

fn by(rule: RuleName) -> options::Options {
    options::Options { rule, ..options::Options::default() }
}

fn listed(text: &str, asked: options::Options) -> Vec<(String, u64)> {
    let tallied = tallied(text, asked);
    let mut words: Vec<_> =
        tallied.histogram.iter().map(|(word, n)| (word.to_owned(), n)).collect();
    words.sort_unstable();
    words
}

fn words(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect()
}

#[test]
fn every_rule_lists_its_own_words() {
    let text = "Well-known, 東京タワー! don\u{2019}t\u{a0}panic — 한국어 ภาษาไทย";
    let spaced = [("don't", 1), ("panic", 1), ("well-known,", 1), ("—", 1)];
    let common = [("ภาษาไทย", 1), ("한국어", 1)];
    let mut whitespace = words(&[&spaced[..], &common, &[("東京タワー!", 1)]].concat());
    whitespace.sort_unstable();
    assert_eq!(listed(text, by(RuleName::Whitespace)), whitespace);
    let alone = [("東", 1), ("京", 1), ("タ", 1), ("ワ", 1), ("ー", 1), ("!", 1)];
    let mut office = words(&[&spaced[..], &common, &alone].concat());
    office.sort_unstable();
    assert_eq!(listed(text, by(RuleName::Office)), office);
    assert_eq!(listed(text, by(RuleName::Gmx)), listed(text, by(RuleName::Unicode)));
}

#[test]
fn all_rules_count_whatever_is_listed() {
    let text = "Well-known, 東京タワー! don\u{2019}t\u{a0}panic — 한국어 ภาษาไทย _ 12는";
    let expected = tallied(text, by(RuleName::Unicode)).totals_by_rule;
    // well known 東京タワー don't panic 한국어 ภาษา ไทย 12는
    assert_eq!(expected["unicode"], 9);
    assert_eq!(expected["whitespace"], 9);
    assert_eq!(expected["office"], 9 - 1 + 6);
    // 5 Japanese characters, 3 + 3 of Korean words, 7 of Thai.
    assert_eq!(expected["gmx"], 4 + 2 + 2 + 2);
    for rule in RuleName::ALL {
        let tallied = tallied(text, by(rule));
        assert_eq!(tallied.totals_by_rule, expected, "{rule:?}");
        assert_eq!(tallied.totals.words, expected[rule.as_str()], "{rule:?}");
    }
}

#[test]
fn options_change_what_is_listed() {
    let text = "The mother-in-law's well-known 2nd 1,000 — a-- b -c x-1 x\u{2010}1 THE";
    let asked = |change: fn(&mut options::Options)| {
        let mut asked = options::Options::default();
        change(&mut asked);
        asked
    };
    let joined = listed(text, asked(|asked| asked.hyphen = Hyphen::Join));
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
    assert_eq!(joined, words(&expected));
    let without = tallied(text, asked(|asked| asked.numbers = options::Numbers::Skip));
    assert_eq!(without.totals.words + 3, without.totals_by_rule["unicode"]);
    let without = asked(|asked| asked.stop_words = vec!["THE".to_owned()].try_into().unwrap());
    assert!(listed(text, without).iter().all(|(word, _)| word != "the"));
    let long = listed(text, asked(|asked| asked.min_len = 4.0.try_into().unwrap()));
    assert_eq!(
        long,
        words(&[("1,000", 1), ("known", 1), ("law's", 1), ("mother", 1), ("well", 1)])
    );
}

/// Pieces that are put together at random; most are ASCII, so that both ways are gone.
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
    let is_plain = random.below(2) == 0;
    let part = |random: &mut Random| loop {
        let part = PARTS[random.below(PARTS.len())];
        if !is_plain || part.is_ascii() || random.below(30) == 0 {
            return part;
        }
    };
    (0..parts).map(|_| part(random)).collect()
}

/// An explained count goes the careful way throughout: the fast way must not differ.
#[test]
fn the_fast_and_the_careful_way_agree() {
    let mut random = Random::new(17);
    for turn in 0..4000 {
        let length = 1 + random.below(60);
        let text = random_text(&mut random, length);
        let rule = RuleName::ALL[turn % RuleName::ALL.len()];
        let fast = tallied(&text, by(rule));
        let mut careful = tallied(&text, options::Options { explain: true, ..by(rule) });
        let explanation = careful.explanation.take();
        assert_eq!(fast, careful, "{text:?}");
        assert!(explanation.is_some() && fast.explanation.is_none());
    }
}

#[test]
fn pieces_of_text_do_not_matter() {
    let mut random = Random::new(23);
    for turn in 0..12 {
        // More than a buffer, without white space at times.
        let mut text = random_text(&mut random, 30_000);
        if turn % 3 == 0 {
            text.retain(|c| !c.is_whitespace());
        }
        let asked = options::Options { explain: turn % 4 == 0, ..by(RuleName::ALL[turn % 4]) };
        let whole = tallied(&text, asked.clone());
        let mut tally = Counter::new(&Options::from(asked));
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let size = rest.floor_char_boundary(4 + random.below(9000));
            let (now, later) = rest.split_at(size);
            tally.add_plain(now);
            rest = later;
        }
        assert_eq!(tally.finish().unwrap(), whole);
    }
}

#[test]
fn only_the_article_counts_when_asked() {
    let page = |scope| {
        let asked = options::Options { scope, ..options::Options::default() };
        let mut tally = Counter::new(&Options::from(asked));
        tally.add_flowing("a start");
        tally.restart_main();
        tally.add_flowing("the mill");
        tally.set_region(Region::Around);
        tally.add_flowing("home about help");
        tally.set_region(Region::Main);
        tally.add_flowing("river");
        tally.finish().unwrap()
    };
    let (whole, main) = (page(Scope::Page), page(Scope::Main));
    for tallied in [&whole, &main] {
        assert_eq!(tallied.totals_by_scope["page"], 8);
        assert_eq!(tallied.totals_by_scope["main"], 3);
    }
    assert_eq!((whole.totals.words, main.totals.words), (8, 3));
    assert_eq!((whole.totals.unique_words, main.totals.unique_words), (8, 3));
    assert_eq!((whole.totals.characters, main.totals.characters), (38, 14));
    assert_eq!(main.totals_by_rule["whitespace"], 3);
}

#[test]
fn the_declared_language_divides_unless_another_is_asked_for() {
    let volume = |language: Option<&str>| {
        let language = language.map(|tag| Language::try_from(tag.to_owned()).unwrap());
        let asked = options::Options { language, ..by(RuleName::Gmx) };
        let mut tally = Counter::new(&Options::from(asked));
        tally.declare_language("ko-KR");
        tally.add_flowing(&"東".repeat(84));
        tally.finish().unwrap().totals.words
    };
    assert_eq!(volume(None), 26);
    assert_eq!(volume(Some("zh")), 30);
    assert_eq!(volume(Some("ja-JP")), 28);
}

#[test]
fn an_explanation_names_what_differs() {
    let asked = options::Options { explain: true, ..options::Options::default() };
    let mut tally = Counter::new(&Options::from(asked));
    tally.add_flowing("the well-known mill — a well-known river, 東京 and 한국");
    tally.dropped(DropReason::Scripts, 7);
    tally.dropped(DropReason::Scripts, 5);
    let explanation = tally.finish().unwrap().explanation.unwrap();
    assert_eq!(explanation.dropped_bytes["scripts"], 12);
    let tokens = explanation.largest_differences(RuleName::Whitespace, RuleName::Unicode);
    let tokens: Vec<_> =
        tokens.iter().map(|token| (token.token.as_str(), token.count, token.reason)).collect();
    let expected = [("well-known", 2, Reason::SignsInside), ("—", 1, Reason::NoLetterOrDigit)];
    assert_eq!(tokens, expected);
    let samples = &explanation.tokens[0].samples;
    assert_eq!(samples[0].before, "the ");
    assert_eq!(samples[0].after, " mill — a well-known river, 東京 and 한국");
    let volume = explanation.largest_differences(RuleName::Unicode, RuleName::Gmx);
    let volume: Vec<_> =
        volume.iter().map(|token| (token.token.as_str(), token.words[&RuleName::Gmx])).collect();
    assert_eq!(volume, [("한국", 0.61), ("東京", 0.71)]);
}

#[test]
fn an_explanation_is_bounded() {
    let asked = options::Options { explain: true, ..options::Options::default() };
    let text: String = (0..30_000).map(|n| format!("{n}-{n} ")).collect();
    let giant = "-ab".repeat(50_000);
    let explanation = tallied(&(text + &giant), asked).explanation.unwrap();
    assert!(explanation.tokens.len() <= 300);
    assert!(serde_json::to_vec(&explanation).unwrap().len() < 400_000);
}
