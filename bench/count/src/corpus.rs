//! Texts and pages to count, installed on the machine or generated from a few words.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of Debian's package `installation-guide-amd64`.
const GUIDE: &str = "/usr/share/doc/installation-guide-amd64";
/// Minimum size of a text. Shorter texts are repeated.
const BYTES_MIN: usize = 24_000_000;
/// Minimum size of a set of pages. Smaller sets are repeated, so that the cold caches at the start
/// of each turn affect all sets alike.
const PAGES_BYTES_MIN: usize = 6_000_000;

/// A text, and the targets for the ratios to the other counters.
pub struct Text {
    pub name: &'static str,
    pub text: String,
    pub target_wc: Option<f64>,
    pub target_naive: Option<f64>,
}

impl Text {
    /// Returns every available text, and prints the names of missing ones.
    pub fn all() -> Vec<Self> {
        let corpus = |name, text: String, target_wc, target_naive| {
            if text.len() < 10_000 {
                print_missing(name);
                return None;
            }
            let repetitions = BYTES_MIN.div_ceil(text.len());
            Some(Self { name, text: text.repeat(repetitions), target_wc, target_naive })
        };
        let mut english = guide("en");
        english.push_str(&text_of(&book()));
        let ascii = english.replace(|c: char| !c.is_ascii(), " ");
        let all = [
            corpus("English, ASCII (guide, book)", ascii, Some(3.0), Some(8.0)),
            corpus("English, ASCII (made)", generate_text(ENGLISH, " "), Some(3.0), Some(8.0)),
            corpus("English (guide, book)", english, None, None),
            corpus("Russian (guide)", guide("ru"), None, Some(1.5)),
            corpus("Japanese (guide)", guide("ja"), None, Some(1.5)),
            corpus("Chinese (guide)", guide("zh_CN"), None, None),
            corpus("Korean (guide)", guide("ko"), None, None),
            corpus("Thai (made)", generate_text(THAI, ""), None, Some(1.5)),
        ];
        all.into_iter().flatten().collect()
    }
}

/// A set of pages, each of which is a document.
pub struct Pages {
    pub name: &'static str,
    pub pages: Vec<String>,
    /// The number of repetitions in one turn.
    pub repetitions: usize,
}

impl Pages {
    /// Returns every available set of pages, and prints the names of missing ones.
    pub fn all() -> Vec<Self> {
        let corpus = |name, folder: &Path| {
            let pages = pages(folder);
            if pages.is_empty() {
                print_missing(name);
            }
            let bytes: usize = pages.iter().map(String::len).sum();
            let repetitions = PAGES_BYTES_MIN.div_ceil(bytes.max(1));
            (!pages.is_empty()).then_some(Self { name, pages, repetitions })
        };
        let guide = Path::new(GUIDE);
        let rustdoc = toolchain_docs();
        let all = [
            corpus("guide, English", &guide.join("en")),
            corpus("guide, Russian", &guide.join("ru")),
            corpus("guide, Japanese", &guide.join("ja")),
            corpus("Rust book", &rustdoc.join("book")),
            corpus("rustdoc", &rustdoc.join("std")),
            corpus("rustdoc, traits", &rustdoc.join("std/iter")),
        ];
        all.into_iter().flatten().collect()
    }
}

fn print_missing(name: &str) {
    println!("not measured, because it is not installed: {name}");
}

fn guide(language: &str) -> String {
    text_of(&pages(&Path::new(GUIDE).join(language)))
}

fn book() -> Vec<String> {
    pages(&toolchain_docs().join("book"))
}

/// Returns the folder of the toolchain's component `rust-docs`.
fn toolchain_docs() -> PathBuf {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    Path::new(sysroot.unwrap_or_default().trim()).join("share/doc/rust/html")
}

/// Returns the pages in a folder, in the order of their names.
fn pages(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "html"));
    paths.sort();
    paths.iter().flat_map(fs::read_to_string).collect()
}

fn text_of(pages: &[String]) -> String {
    pages.iter().map(|page| without_tags(page)).collect()
}

/// Removes all text from `<` to `>`, which is precise enough for a benchmark.
fn without_tags(page: &str) -> String {
    page.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text).collect()
}

const ENGLISH: &str = "the of and to a in that is was he for it with as his on be at by had not \
    are but from or have an they which one you were all her she there would their we him been has \
    when who will no more if out so up said what its about than into them can only other time new \
    some could these two may first then do any like my now over such our man me even most made \
    after also did many off before must well back through years where much your way down should \
    because long each just state those people too mister how little good world make very year \
    still see own work men day get here old life both between being under three never know same \
    last another while us might great go come since against right take used himself few house \
    American use place during high without again home around small however found part school \
    thought went say general once upon left war does got united number hand course water until \
    always away public something fact less though far put head think called set almost enough end \
    took government night yet system better four nothing told eyes city going president why days \
    present point didn't look find asked second group later next room social business knew program \
    half give side face toward white five let young form given per order large several national \
    important possible rather big among case often things looked early thus";

const THAI: &str = "\
    ภาษา ไทย ง่าย น้ำ ใน แม่น้ำ ไหล ไป ยัง โรงสี ขนมปัง ใหม่ อบ ทุก เช้า ชาวนา นำ \
    ข้าว มา บด คน ใน หมู่บ้าน ชอบ กลิ่น หอม เด็ก เดิน ไป โรงเรียน ตลาด มี ผลไม้ และ \
    ผัก มาก";

/// Generates a text, the same in every run. The first of `words` are the most frequent.
fn generate_text(words: &str, between: &str) -> String {
    let words: Vec<_> = words.split_whitespace().collect();
    let mut text = String::new();
    let mut state = 1_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    for n in 1..200_000 {
        let range = 1 + next(words.len());
        let word = words[next(range)];
        text.push_str(word);
        text.push_str(match n % 60 {
            0 => ".\n",
            15 | 30 | 45 => ", ",
            _ => between,
        });
    }
    text
}
