//! Compares the visible text with html5ever on the pages of html5lib's tree construction tests,
//! which browsers and other parsers share.
//!
//! The tests are not in the repository: `tests/external/html5lib-tests` downloads them.

use std::{collections::BTreeMap, path::PathBuf};

use super::reference::{DifferenceCauses, show, words_of, words_of_reference};

/// Maximum ratio of pages that differ, for one of the reasons in [`reason`].
const DIFFERENCE_PERCENT_MAX: usize = 2;

/// Returns the pages of a file of tests. Fragments and tests without scripts are left out.
fn pages(file: &str) -> Vec<String> {
    let tests = file.split("#data\n").skip(1);
    let pages = tests.filter_map(|test| {
        let (data, rest) =
            test.split_once("\n#errors\n").or_else(|| test.split_once("#errors\n"))?;
        let is_fragment = rest.lines().any(|line| line == "#document-fragment");
        let is_without_scripts = rest.lines().any(|line| line == "#script-off");
        (!is_fragment && !is_without_scripts).then(|| data.to_owned())
    });
    pages.collect()
}

/// Returns the reason why the words of a page may differ.
pub(crate) fn reason(causes: DifferenceCauses) -> Option<&'static str> {
    if causes.is_fostered {
        Some("foster parenting")
    } else if causes.is_adopted {
        Some("adoption agency")
    } else if causes.has_integration_point {
        Some("integration point")
    } else {
        None
    }
}

#[test]
#[ignore = "needs html5lib's tests: make test-parser"]
#[expect(clippy::disallowed_methods, reason = "the folder is not a setting of the service")]
#[expect(clippy::print_stdout, reason = "prints the number of pages")]
fn html5libs_trees_have_the_same_words() {
    let folder = std::env::var("HTML5LIB_TESTS").expect("HTML5LIB_TESTS must name a folder");
    let folder = PathBuf::from(folder).join("tree-construction");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "dat"));
    files.sort();
    let mut compared = 0;
    let mut differences = BTreeMap::<&str, usize>::new();
    let mut failures = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for page in pages(&String::from_utf8_lossy(&bytes)) {
            compared += 1;
            let (expected, causes) = words_of_reference(&page);
            let ours = words_of(&page);
            if ours == expected {
                continue;
            }
            let name = file.file_name().unwrap().display();
            let (ours, expected) = (show(&ours), show(&expected));
            println!("{name} {causes:?}: {page:?}\n  ours {ours}\n  tree {expected}");
            match reason(causes) {
                Some(reason) => *differences.entry(reason).or_default() += 1,
                None => failures.push(page),
            }
        }
    }
    println!("{compared} pages compared, different: {differences:?}");
    assert!(failures.is_empty(), "without a reason: {failures:?}");
    let different: usize = differences.values().sum();
    assert!(different * 100 <= compared * DIFFERENCE_PERCENT_MAX, "{different} of {compared}");
    assert!(compared > 1000, "only {compared} pages");
}
