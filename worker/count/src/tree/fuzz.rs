//! Fuzz test that compares the visible text of damaged pages with html5ever's tree: `make fuzz`.

use std::collections::BTreeMap;

use super::{
    html5lib::reason,
    reference::{show, words_of, words_of_reference},
};
use crate::{
    fuzz::{SAMPLES, fuzz},
    random::Random,
};

/// Tags that determine which text is visible.
const TREE_PARTS: &[&str] = &[
    "<p>",
    "</p>",
    "<p hidden>",
    "<div>",
    "</div>",
    "<div hidden>",
    "<div style='visibility:hidden'>",
    "<div style='visibility:visible'>",
    "<section style='display:none'>",
    "</section>",
    "<span hidden>",
    "</span>",
    "<b>",
    "</b>",
    "<b hidden>",
    "<i>",
    "</i>",
    "<a hidden>",
    "<a>",
    "</a>",
    "<font color=red>",
    "</font>",
    "<nobr hidden>",
    "</nobr>",
    "<x-y hidden>",
    "</x-y>",
    "<ul>",
    "<li hidden>",
    "<li>",
    "</ul>",
    "<dl><dt hidden>",
    "<dd>",
    "</dl>",
    "<h1 hidden>",
    "<h2>",
    "</h3>",
    "<table>",
    "<table hidden>",
    "<caption hidden>",
    "<colgroup hidden>",
    "<col>",
    "<tbody hidden>",
    "<thead>",
    "<tr>",
    "<tr hidden>",
    "<td>",
    "<td hidden>",
    "<th>",
    "</td>",
    "</tr>",
    "</tbody>",
    "</table>",
    "<form hidden>",
    "<form>",
    "</form>",
    "<button hidden>",
    "</button>",
    "<object hidden>",
    "</object>",
    "<select hidden>",
    "<select>",
    "<option hidden>",
    "<option>",
    "<optgroup>",
    "</select>",
    "<input>",
    "<input type=hidden>",
    "<hr>",
    "<br>",
    "</br>",
    "<ruby>",
    "<rt hidden>",
    "<rp>",
    "<rb>",
    "<rtc>",
    "</ruby>",
    "<canvas id=c />",
    "</canvas>",
    "<video>",
    "</video>",
    "<audio controls>",
    "<progress>",
    "<iframe>",
    "</iframe>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "<template>",
    "</template>",
    "<svg>",
    "</svg>",
    "<svg><desc>",
    "<svg><title>",
    "<foreignObject>",
    "<foreignObject hidden>",
    "<math>",
    "</math>",
    "<math><mi>",
    "<mtext>",
    "<semantics>",
    "<annotation-xml encoding='text/html'>",
    "<annotation-xml>",
    "<mphantom>",
    "<script>",
    "</script>",
    "<noscript>",
    "</noscript>",
    "<html>",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<main>",
    "<pre>",
    "<center>",
    "<marquee>",
    "</marquee>",
    "<details>",
    "<summary hidden>",
    "<fieldset><legend hidden>",
    "<datalist>",
    " word ",
    "word",
    " ",
];

/// Returns real pages: those of the samples, and those in the folder `FUZZ_PAGES`.
#[expect(clippy::disallowed_methods, reason = "the folder is not a setting of the service")]
fn real_pages() -> Vec<String> {
    let samples = SAMPLES.iter().filter_map(|sample| str::from_utf8(sample).ok());
    let mut pages: Vec<_> =
        samples.filter(|sample| sample.contains("<html")).map(str::to_owned).collect();
    let folder = std::env::var("FUZZ_PAGES").unwrap_or_default();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.map(|file| file.path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|name| name == "html")).collect();
    files.sort();
    pages.extend(files.iter().flat_map(std::fs::read_to_string));
    pages
}

/// Damages a part of a page: removes, copies, moves and inserts tags.
fn damage(page: &str, random: &mut Random) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in page.split_inclusive('>') {
        let (text, tag) = part.split_at(part.find('<').unwrap_or(part.len()));
        parts.extend([text, tag].into_iter().filter(|part| !part.is_empty()));
    }
    let start = random.below(parts.len());
    let length = 1 + random.below(400);
    let mut parts = parts.into_iter().skip(start).take(length).collect::<Vec<_>>();
    for _ in 0..random.below(40) {
        let index = random.below(parts.len() + 1);
        match random.below(4) {
            0 if index < parts.len() => {
                parts.remove(index);
            }
            1 if index < parts.len() => {
                let part = parts[index];
                parts.insert(random.below(parts.len() + 1), part);
            }
            _ => parts.insert(index, TREE_PARTS[random.below(TREE_PARTS.len())]),
        }
    }
    parts.concat()
}

/// Removes the parts of a page that are not needed for a difference without a reason.
fn reduce(page: &str) -> String {
    let differs = |page: &str| {
        let (expected, causes) = words_of_reference(page);
        words_of(page) != expected && reason(causes).is_none()
    };
    let mut parts: Vec<&str> = page.split_inclusive(['>', ' ']).collect();
    let mut length = parts.len();
    while length > 0 {
        let mut index = 0;
        while index < parts.len() {
            let end = (index + length).min(parts.len());
            let rest = [&parts[..index], &parts[end..]].concat();
            if differs(&rest.concat()) {
                parts = rest;
            } else {
                index += length;
            }
        }
        length /= 2;
    }
    parts.concat()
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
#[expect(clippy::print_stdout, reason = "prints the number of differences")]
fn any_page_has_the_words_of_its_tree() {
    let pages = real_pages();
    let mut differences = BTreeMap::<&str, u64>::new();
    let mut compared = 0_u64;
    fuzz("tree", |_, random| {
        let start = if random.below(2) == 0 { "<!DOCTYPE html>" } else { "" };
        let page = damage(&pages[random.below(pages.len())], random);
        let page = format!("{start}{page}");
        let (expected, causes) = words_of_reference(&page);
        let ours = words_of(&page);
        compared += 1;
        if ours != expected {
            let reason = reason(causes);
            if reason.is_none() {
                let page = reduce(&page);
                let (ours, expected) = (words_of(&page), words_of_reference(&page).0);
                panic!("{page:?}\n  ours {}\n  tree {}", show(&ours), show(&expected));
            }
            *differences.entry(reason.unwrap_or_default()).or_default() += 1;
        }
    });
    println!("{} real pages; {compared} compared, different: {differences:?}", pages.len());
}
