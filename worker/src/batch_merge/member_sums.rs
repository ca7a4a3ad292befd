//! Sums of the results of a batch's members, except the words, and the warnings of the batch.

use std::collections::{BTreeMap, BTreeSet};

use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::histogram::{Rule, Totals};
use wordmill_common::job::Job;
use wordmill_common::source::Extractor;
use wordmill_common::warning::{WarningCode, Warnings};

/// Sums of the members that have been added. Their size does not grow with the number of members.
#[derive(Debug, Default)]
pub(super) struct MemberSums {
    /// Sum of the totals; `unique_words` is 0, because words of several members may be the same.
    pub(super) totals: Totals,
    pub(super) by_rule: BTreeMap<String, u64>,
    pub(super) by_scope: BTreeMap<String, u64>,
    pub(super) size_bytes: u64,
    warnings: Warnings,
    versions: MemberVersions,
}

impl MemberSums {
    /// Adds the result of a succeeded member.
    ///
    /// # Errors
    /// If the member was counted by a rule with another name than earlier members. The gateway
    /// refuses such batches.
    pub(super) fn add(&mut self, job: &Job) -> Result<(), Failure> {
        if let Some(rule) = &job.rule {
            self.versions.add(rule, job.source.extractor.as_ref())?;
        }
        let totals = job.totals.unwrap_or_default();
        let sums = &mut self.totals;
        for (sum, count) in [
            (&mut sums.words, totals.words),
            (&mut sums.characters, totals.characters),
            (&mut sums.characters_no_spaces, totals.characters_no_spaces),
            (&mut sums.overlong_words, totals.overlong_words),
            (&mut self.size_bytes, job.source.size_bytes.unwrap_or(0)),
        ] {
            *sum = sum.saturating_add(count);
        }
        add_all(&mut self.by_rule, job.totals_by_rule.as_ref());
        add_all(&mut self.by_scope, job.totals_by_scope.as_ref());
        self.warnings.merge(job.warnings.clone());
        // A worker of an older version does not report warnings.
        if totals.words == 0 && !job.warnings.has(WarningCode::NoTextFound) {
            self.warnings.add(WarningCode::NoTextFound, 1, None);
        }
        Ok(())
    }

    /// Returns the newest version of the rule that counted the members; `None` if no member has
    /// succeeded.
    pub(super) fn rule(&self) -> Option<Rule> {
        let rule = self.versions.counts.keys().map(|(rule, _)| rule).max();
        rule.map(|RuleVersion { version, unicode, .. }| Rule {
            name: self.versions.rule_name.clone(),
            version: *version,
            unicode: unicode.clone(),
        })
    }

    /// Returns the warnings of all members by code, and those of the batch itself.
    pub(super) fn warnings(&self) -> Warnings {
        let mut warnings = self.warnings.clone();
        // A batch without a succeeded member has no words, and no warning of a member.
        if self.totals.words == 0 && !warnings.has(WarningCode::NoTextFound) {
            warnings.add(WarningCode::NoTextFound, 1, None);
        }
        self.versions.warn(&mut warnings);
        warnings
    }
}

fn add_all(sums: &mut BTreeMap<String, u64>, counts: Option<&BTreeMap<String, u64>>) {
    for (name, count) in counts.into_iter().flatten() {
        let sum = sums.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}

/// Version of a rule, in the order of their release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct RuleVersion {
    version: u32,
    /// Numbers of the Unicode version, because `9.0` comes before `18.0`.
    unicode_numbers: Vec<u32>,
    unicode: String,
}

impl RuleVersion {
    fn of(rule: &Rule) -> Self {
        let unicode = rule.unicode.clone();
        let unicode_numbers = unicode.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        Self { version: rule.version, unicode_numbers, unicode }
    }
}

/// Name and version of an extractor, in the order of their release.
type ExtractorVersion = (String, u32);

/// Versions that counted the members. Usually there is one for each format. During an upgrade,
/// workers of two versions run side by side, so there are two. Only workers write them, so their
/// number does not depend on clients.
#[derive(Debug, Default)]
struct MemberVersions {
    rule_name: String,
    /// Number of members by their versions.
    counts: BTreeMap<(RuleVersion, Option<ExtractorVersion>), u64>,
}

impl MemberVersions {
    fn add(&mut self, rule: &Rule, extractor: Option<&Extractor>) -> Result<(), Failure> {
        if self.counts.is_empty() {
            self.rule_name.clone_from(&rule.name);
        }
        if self.rule_name != rule.name {
            return Err(mixed_rules(&self.rule_name, &rule.name));
        }
        let extractor = extractor.map(|extractor| (extractor.name.clone(), extractor.version));
        let count = self.counts.entry((RuleVersion::of(rule), extractor)).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Adds a warning if some members were counted by an older version than others.
    fn warn(&self, warnings: &mut Warnings) {
        let rules: BTreeSet<_> = self.counts.keys().map(|(rule, _)| rule).collect();
        let extractors: BTreeSet<_> = self.counts.keys().filter_map(|(_, e)| e.as_ref()).collect();
        let newest_rule = rules.last();
        // The entry of a name that is inserted last has its highest version.
        let newest: BTreeMap<_, _> =
            extractors.iter().map(|(name, version)| (name, version)).collect();
        let is_older = |(rule, extractor): &(RuleVersion, Option<ExtractorVersion>)| {
            let has_newer_extractor = extractor.as_ref().is_some_and(|(name, version)| {
                newest.get(name).is_some_and(|newest| version < *newest)
            });
            newest_rule.is_some_and(|newest| rule < *newest) || has_newer_extractor
        };
        let older = self.counts.iter().filter(|(versions, _)| is_older(versions));
        let older = older.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let mut listed = Vec::new();
        if rules.len() > 1 {
            listed.extend(rules.iter().map(|RuleVersion { version, unicode, .. }| {
                format!("{} {version} (Unicode {unicode})", self.rule_name)
            }));
        }
        for (name, version) in &extractors {
            if extractors.iter().filter(|(other, _)| other == name).count() > 1 {
                listed.push(format!("{name} {version}"));
            }
        }
        warnings.add(WarningCode::MixedVersions, older, Some(&listed.join(", ")));
    }
}

fn mixed_rules(one: &str, other: &str) -> Failure {
    let detail = format!(
        "The members were counted by different rules, {one} and {other}, so their results cannot \
         be merged. Submit the batch again."
    );
    Failure { retryable: false, ..Failure::new(FailureCode::Internal, detail) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns the record of a succeeded member with some fields replaced.
    fn member(changes: Value) -> Job {
        let golden = include_str!("../../../common/src/golden/record.json");
        let mut record: Value = serde_json::from_str(golden).unwrap();
        let totals = json!({"words": 2, "unique_words": 2, "characters": 9,
            "characters_no_spaces": 8, "overlong_words": 0});
        record["status"] = json!("succeeded");
        record["totals"] = totals;
        record["rule"] = json!({"name": "unicode", "version": 1, "unicode": "18.0"});
        record["source"]["extractor"] = json!({"name": "html", "version": 2});
        let Value::Object(changes) = changes else { panic!("{changes} is not an object") };
        record.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(record).unwrap()
    }

    fn by_rule(version: u32, unicode: &str) -> Job {
        member(json!({"rule": {"name": "unicode", "version": version, "unicode": unicode}}))
    }

    fn by_extractor(name: &str, version: u32) -> Job {
        let extractor = json!({"name": name, "version": version});
        member(json!({"source": {"kind": "url", "extractor": extractor}}))
    }

    fn with_warning(code: &str, count: u64, location: Option<&str>) -> Job {
        member(json!({"warnings": [{"code": code, "count": count, "where": location}]}))
    }

    fn without_words() -> Job {
        member(json!({"totals": Totals::default()}))
    }

    fn sum(members: &[Job]) -> MemberSums {
        let mut sums = MemberSums::default();
        for job in members {
            sums.add(job).unwrap();
        }
        sums
    }

    fn warnings(members: &[Job]) -> Value {
        json!(sum(members).warnings())
    }

    #[test]
    fn members_of_one_version_cause_no_warning() {
        let members = [by_extractor("html", 2), by_extractor("text", 1), by_extractor("html", 2)];
        assert_eq!(warnings(&members), json!([]));
    }

    #[test]
    fn members_of_two_versions_of_an_extractor_are_added_up_with_a_warning() {
        let members = [
            by_extractor("html", 3),
            by_extractor("html", 2),
            by_extractor("text", 1),
            by_extractor("html", 2),
        ];
        assert_eq!(sum(&members).totals.words, 8);
        let expected = json!([{"code": "mixed_versions", "count": 2, "where": "html 2, html 3"}]);
        assert_eq!(warnings(&members), expected);
    }

    #[test]
    fn members_of_two_versions_of_a_rule_are_added_up_with_a_warning() {
        let sums = sum(&[by_rule(1, "18.0"), by_rule(2, "18.0"), by_rule(2, "18.0")]);
        assert_eq!(sums.totals.words, 6);
        let versions = "unicode 1 (Unicode 18.0), unicode 2 (Unicode 18.0)";
        let expected = json!([{"code": "mixed_versions", "count": 1, "where": versions}]);
        assert_eq!(json!(sums.warnings()), expected);
    }

    #[test]
    fn the_rule_of_a_batch_is_the_newest_version() {
        for members in
            [[by_rule(2, "18.0"), by_rule(1, "19.0")], [by_rule(1, "19.0"), by_rule(2, "18.0")]]
        {
            assert_eq!(sum(&members).rule().unwrap().version, 2);
        }
        let members = [by_rule(1, "18.0"), by_rule(1, "9.0")];
        assert_eq!(sum(&members).rule().unwrap().unicode, "18.0");
    }

    #[test]
    fn a_member_with_two_older_versions_is_counted_once() {
        let mut older = by_extractor("html", 1);
        older.rule.as_mut().unwrap().version = 0;
        let warnings = sum(&[by_extractor("html", 2), older]).warnings();
        assert_eq!(warnings.iter().map(|warning| warning.count).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn different_rules_are_not_merged() {
        let mut sums = sum(&[by_rule(1, "18.0")]);
        let rule = json!({"name": "office", "version": 1, "unicode": "18.0"});
        let failure = sums.add(&member(json!({"rule": rule}))).unwrap_err();
        assert!(!failure.retryable, "{failure:?}");
    }

    #[test]
    fn warnings_of_members_are_merged_by_code() {
        let members = [
            with_warning("hidden_text_present", 3, None),
            by_rule(1, "18.0"),
            with_warning("charset_guessed", 1, Some("koi8-r")),
            with_warning("font_missing", 1, Some("page 2")),
            with_warning("charset_guessed", 1, Some("gbk")),
            with_warning("hidden_text_present", 4, None),
        ];
        let expected = json!([
            {"code": "hidden_text_present", "count": 7, "where": null},
            {"code": "charset_guessed", "count": 2, "where": "koi8-r"},
            {"code": "font_missing", "count": 1, "where": "page 2"},
        ]);
        assert_eq!(warnings(&members), expected);
    }

    #[test]
    fn members_without_words_are_counted_even_if_an_older_worker_counted_them() {
        let mut newer = without_words();
        newer.warnings.add(WarningCode::NoTextFound, 1, Some("main"));
        let expected = json!([{"code": "no_text_found", "count": 2, "where": "main"}]);
        assert_eq!(warnings(&[without_words(), newer, by_rule(1, "18.0")]), expected);
    }

    #[test]
    fn a_batch_without_a_succeeded_member_has_a_warning() {
        let expected = json!([{"code": "no_text_found", "count": 1, "where": null}]);
        assert_eq!(warnings(&[]), expected);
    }

    #[test]
    fn the_warnings_of_10000_members_are_bounded() {
        let mut sums = MemberSums::default();
        for number in 0..10_000 {
            let code = format!("code_{number}");
            sums.add(&with_warning(&code, 1, Some(&"x".repeat(1000)))).unwrap();
        }
        assert!(serde_json::to_vec(&sums.warnings()).unwrap().len() < 8000);
    }
}
