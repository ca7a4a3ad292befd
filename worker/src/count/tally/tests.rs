//! Sums of plain and of flowing text, by every rule, whatever way the text goes.

use super::*;

fn tally() -> Tally {
    Tally::new(&Options::default())
}

fn characters(tally: Tally) -> (u64, u64) {
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
