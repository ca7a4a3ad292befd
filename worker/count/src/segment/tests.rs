//! Compares the boundary rules with other implementations, and tests their limits.

use std::{fs, path::Path, process::Command};

use icu_segmenter::{WordSegmenter, options::WordBreakInvariantOptions};
use wordmill_common::histogram::Histogram;
use wordmill_common::options::{self, Case};

use super::*;
use crate::{
    Options, UNICODE_VERSION, char_class::CharTable, counter::Counter, normalize::Normalizer,
    random::Random, stretch::WORD_BYTES_MAX, word_table::WordTable,
};

fn as_written() -> options::Options {
    options::Options { case: Case::Keep, ..options::Options::default() }
}

fn words_of(text: &str) -> Histogram {
    let mut counter = Counter::new(&Options { job_options: as_written(), ..Options::default() });
    counter.add_plain_text(text);
    counter.finish().unwrap().histogram
}

/// Returns the words found by another implementation of the same rules.
fn words_of_reference(text: &str) -> Histogram {
    let reference =
        WordSegmenter::new_for_non_complex_scripts(WordBreakInvariantOptions::default());
    let ends: Vec<_> = reference.segment_str(text).collect();
    words_between(ends.windows(2).map(|pair| text.get(pair[0]..pair[1]).unwrap()))
}

fn words_between<'t>(segments: impl Iterator<Item = &'t str>) -> Histogram {
    let char_table = CharTable::get();
    let mut table = WordTable::new(Normalizer::new(&as_written()), 1_000_000);
    for segment in segments.filter(|s| s.chars().any(|c| char_table.of(c).is_word_character())) {
        table.add(segment);
    }
    table.into_histogram().unwrap()
}

/// At least one character of each class, and several of error-prone classes.
const ALPHABET: &[char] = &[
    'a',
    'B',
    'é',
    'ß',
    'я',
    'Σ',
    '1',
    '5',
    '٣',
    '_',
    '\u{203f}',
    ':',
    '\u{b7}',
    ',',
    ';',
    '\u{66c}',
    '.',
    '\u{2019}',
    '\u{2018}',
    '\'',
    '"',
    'ש',
    'ה',
    '\u{301}',
    '\u{5b0}',
    '\u{ad}',
    '\u{200d}',
    '\u{200c}',
    '\u{2060}',
    '\u{feff}',
    '\u{200b}',
    '\n',
    '\r',
    '\u{2028}',
    ' ',
    '\u{a0}',
    '\u{3000}',
    '-',
    '—',
    '☃',
    '❤',
    '©',
    'ℹ',
    '🇩',
    '🇪',
    '👩',
    '\u{1f3fd}',
    '\u{fffd}',
    '½',
    '²',
    '\u{2163}',
    'ｶ',
    '한',
    'ㄅ',
    'न',
    '\u{940}',
    '\u{94d}',
    'ა',
];

#[test]
fn random_text_agrees_with_icu() {
    let plain: Vec<char> = ALPHABET.iter().copied().filter(|&c| c != 'ｶ').collect();
    let mut random = Random::new(29);
    for turn in 0..60_000 {
        // Long texts that are mostly ASCII take the fast path.
        let length = 1 + random.below(if turn % 4 == 0 { 90 } else { 12 });
        let mostly_ascii = turn % 3 == 0;
        let text: String = (0..length)
            .map(|_| {
                loop {
                    let c = plain[random.below(plain.len())];
                    if !mostly_ascii || c.is_ascii() || random.below(40) == 0 {
                        break c;
                    }
                }
            })
            .collect();
        assert_eq!(words_of(&text), words_of_reference(&text), "{text:?}");
    }
}

fn word_break_test() -> String {
    let compiler = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap();
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Packages for other platforms may be missing offline.
    let platform = format!("--filter-platform={host}");
    let arguments = ["metadata", "--format-version=1", "--offline", "--locked", &platform];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "icu_segmenter").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let text = fs::read_to_string(manifest.with_file_name("tests/testdata/WordBreakTest.txt"));
    let text = text.unwrap();
    assert!(text.contains(&format!("WordBreakTest-{UNICODE_VERSION}")), "other Unicode version");
    text
}

/// Runs Unicode's test file, which is part of the crate `icu_segmenter`. Skips lines with scripts
/// that need a dictionary.
#[test]
fn the_unicode_word_break_test_passes() {
    let char_table = CharTable::get();
    let mut lines = 0;
    let mut with_dictionaries = 0;
    for line in word_break_test().lines() {
        let (case, _) = line.split_once('#').unwrap_or((line, ""));
        let segments: Vec<String> = case
            .split('÷')
            .map(|segment| {
                let codes = segment.split(['×', ' ', '\t']).filter(|code| !code.is_empty());
                codes
                    .map(|code| char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap())
                    .collect::<String>()
            })
            .filter(|segment| !segment.is_empty())
            .collect();
        if segments.is_empty() {
            continue;
        }
        let text = segments.concat();
        if text.chars().any(|c| char_table.of(c).class.writing().is_some()) {
            with_dictionaries += 1;
            continue;
        }
        lines += 1;
        assert_eq!(words_of(&text), words_between(segments.iter().map(String::as_str)), "{line}");
    }
    assert!(lines > 1800 && with_dictionaries < 150, "{lines} {with_dictionaries}");
}

#[test]
fn scripts_without_spaces_are_split_by_their_dictionary() {
    let histogram = words_of("我喜欢吃苹果。ภาษาไทย កម្ពុជា ລາວ abc東京 カフェ１２");
    for word in ["喜欢", "苹果", "ภาษา", "ไทย", "ລາວ", "abc", "東京", "カフェ", "１２"]
    {
        assert!(histogram.iter().any(|(w, _)| w == word), "{word} in {histogram:?}");
    }
}

#[test]
fn endless_segments_need_bounded_memory() {
    let char_table = CharTable::get();
    for c in ["a", "\u{301}", "_", "❤"] {
        let mut segmenter = Segmenter::new();
        let mut words = WordSink::new(&as_written(), 10);
        let endless = c.repeat(200);
        for text in ["a", "'"].into_iter().chain(std::iter::repeat_n(endless.as_str(), 1000)) {
            let mut rest = text;
            while !rest.is_empty() {
                let stretch = Stretch::first(rest, char_table);
                rest = rest.get(stretch.text.len()..).unwrap();
                segmenter.push(&stretch, &mut words);
            }
        }
        assert!(segmenter.segment.text.capacity() <= 2 * WORD_BYTES_MAX);
        assert!(segmenter.middle.text.capacity() <= 2 * WORD_BYTES_MAX);
    }
}

#[test]
fn no_dictionary_separates_a_mark_from_its_letter() {
    // These words are in no dictionary, and a cut at every character would make words of their
    // marks.
    for (text, mark) in [("ແທຣັກ", 'ັ'), ("ສະຕຣີມ", 'ີ'), ("ဂိမ်း", 'း'), ("အလျှား", 'း')]
    {
        let histogram = words_of(text);
        assert!(histogram.iter().all(|(word, _)| !word.starts_with(mark)), "{histogram:?}");
        assert!(histogram.iter().any(|(word, _)| word.contains(mark)), "{histogram:?}");
    }
}

/// Lists the words of a text in alphabetical order, repeated as often as they occur.
fn list_words(text: &str) -> Vec<String> {
    let histogram = words_of(text);
    let mut words: Vec<String> = histogram
        .iter()
        .flat_map(|(word, count)| vec![word.to_owned(); usize::try_from(count).unwrap()])
        .collect();
    words.sort();
    words
}

#[test]
fn letters_of_southeast_asian_scripts_without_a_dictionary_form_words() {
    // Tai Le, New Tai Lue, Tai Tham, Tai Viet and Ahom.
    for word in ["ᥖᥭᥰᥖᥬᥲ", "ᦅᦱᦷᦅᦱᦷ", "ᨲᩫ᩠ᩅᨾᩮᩬᩥᨦ", "ꪁꪫꪱꪣꪼꪕ", "𑜒𑜑𑜪𑜨"]
    {
        assert_eq!(list_words(&format!("{word} {word}")), [word, word]);
    }
}

#[test]
fn thai_repetition_and_abbreviation_marks_belong_to_the_word_before_them() {
    let text = "คนดีๆ บ่อยๆ มากๆ จริงๆ ไปๆมาๆ";
    assert_eq!(list_words(text), ["คน", "จริงๆ", "ดีๆ", "บ่อยๆ", "มากๆ", "มาๆ", "ไปๆ"]);
    assert_eq!(list_words("กรุงเทพฯๆ"), ["กรุง", "เทพฯๆ"]);
    // A second mark is a word.
    assert_eq!(list_words("ไทยๆๆ"), ["ไทยๆ", "ๆ"]);
}

#[test]
fn unknown_text_between_dictionary_words_is_one_word() {
    assert_eq!(list_words("ແທຣັກ"), ["ແທຣັກ"]);
    assert_eq!(list_words("ເຄື່ອງແທຣັກ"), ["ເຄື່ອງ", "ແທຣັກ"]);
}

#[test]
fn kana_signs_belong_to_the_letters_around_them() {
    assert_eq!(list_words("あ゛あ゛っ え゜"), ["あ゛あ゛っ", "え゜"]);
    assert_eq!(list_words("コーヒー゠ミル"), ["コーヒー゠ミル"]);
    assert_eq!(list_words("゛学校学校"), ["゛学校", "学校"]);
    assert_eq!(list_words("う゛ーーあ"), ["う゛ーーあ"]);
}

#[test]
fn variants_of_kana_are_segmented_like_the_usual_letters() {
    assert_eq!(list_words("ｶﾞｲﾄﾞﾌﾞｯｸ言語"), ["言語", "ｶﾞｲﾄﾞﾌﾞｯｸ"]);
    assert_eq!(list_words("ﾃｽﾄﾃﾞｰﾀを見る"), ["を", "見る", "ﾃｽﾄ", "ﾃﾞｰﾀ"]);
    assert_eq!(list_words("えﾞっ"), ["えﾞ", "っ"]);
}

#[test]
fn kana_signs_alone_are_not_words() {
    assert!(list_words("゛ ゜゜ ゠ ㌔ ㋐").is_empty());
    assert_eq!(list_words("a゛b"), ["a", "b"]);
}

#[test]
fn a_word_of_any_length_in_a_dictionary_script_is_one_word() {
    // Unknown letters, marks and signs: several times the size of a chunk.
    for (start, repeated) in [("", "ฌ"), ("ไทย", "\u{e48}"), ("ខ", "\u{301}"), ("あ", "゛")]
    {
        let text = start.to_owned() + &repeated.repeat(30_000);
        let mut counter = Counter::new(&Options::default());
        counter.add_plain_text(&text);
        let count = counter.finish().unwrap();
        assert_eq!((count.totals.words, count.totals.overlong_words), (1, 1), "{start}{repeated}");
    }
}
