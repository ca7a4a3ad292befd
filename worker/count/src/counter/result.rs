//! The result of a count.

use wordmill_common::{
    explanation::Explanation,
    histogram::Totals,
    options::{RuleName, Scope},
    warning::WarningCode,
};

use super::Counter;
use crate::{TextCount, rules::Sums};

impl Counter {
    /// Ends the text and returns the count, or `None` if there are more distinct words than the
    /// options allow.
    pub(crate) fn finish(mut self) -> Option<TextCount> {
        self.flush();
        let sums = self.sums_of_scope();
        let language = self.language.as_deref();
        let by_scope = [("page", &self.page), ("main", &self.main)].into_iter();
        let by_scope =
            by_scope.map(|(scope, sums)| (scope.to_owned(), sums.words(self.rule, language)));
        let totals_by_scope = by_scope.collect();
        let histogram = self.words.into_histogram()?;
        // The `gmx` count is not a sum of listed words. By the other rules, the total excludes the
        // words that the options omit from the histogram.
        let words = match self.rule {
            RuleName::Gmx => sums.words(RuleName::Gmx, language),
            RuleName::Unicode | RuleName::Whitespace | RuleName::Office => {
                histogram.total().saturating_add(sums.overlong)
            }
        };
        let totals = Totals {
            words,
            unique_words: u64::try_from(histogram.len()).unwrap_or(u64::MAX),
            characters: sums.all_characters(),
            characters_no_spaces: sums.characters_no_spaces,
            overlong_words: sums.overlong,
        };
        let totals_by_rule = sums.by_rule(language);
        let omissions = self.omissions;
        let explanation = self.recorder.map(|recorder| Explanation {
            dropped_bytes: omissions.bytes_by_reason(),
            ..recorder.finish(language, sums.has_kana)
        });
        let mut warnings = self.warnings;
        omissions.warn(self.page.unicode, &mut warnings);
        if totals.words == 0 {
            let location = if sums.words(self.rule, language) > 0 {
                Some("options")
            } else if self.page.words(self.rule, language) > 0 {
                Some("main")
            } else {
                None
            };
            warnings.add(WarningCode::NoTextFound, 1, location);
        }
        Some(TextCount {
            totals,
            totals_by_rule,
            totals_by_scope,
            histogram,
            explanation,
            warnings,
        })
    }

    /// Returns the sums of the scope that the options select.
    const fn sums_of_scope(&self) -> Sums {
        match self.scope {
            Scope::Page => self.page,
            Scope::Main => self.main,
        }
    }
}
