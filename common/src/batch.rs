//! Batches: jobs that were submitted together, and the job that adds up their results.
//!
//! The batch is a job with its members as the source. The members are not listed anywhere: the id
//! of a member is derived from the batch id and the line number. So the batch alone leads to all
//! members, and a repeated submission of the batch finds the same ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{JobId, Owner};

/// Set of line numbers of a batch, from 1. Stored as sorted inclusive ranges that neither overlap
/// nor adjoin, for example `[[1,3],[5,5]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Lines(Vec<(u32, u32)>);

impl Lines {
    /// Returns the number of lines.
    #[must_use]
    pub fn count(&self) -> u32 {
        let of = |(first, last): &(u32, u32)| last.saturating_sub(*first).saturating_add(1);
        self.0.iter().map(of).fold(0, u32::saturating_add)
    }

    /// Returns whether the set has no lines.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether the set contains `line`.
    #[must_use]
    pub fn contains(&self, line: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= line);
        let range = after.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|(_, last)| line <= *last)
    }

    /// Adds a line. Adding a line that the set contains changes nothing.
    pub fn add(&mut self, line: u32) {
        // The first range that ends at `line - 1` or later: the only one that can contain the line
        // or adjoin it from below.
        let at = self.0.partition_point(|(_, last)| last.saturating_add(1) < line);
        let next = match self.0.get_mut(at) {
            // The line is in the range, or follows directly after it.
            Some(range) if range.0 <= line => {
                range.1 = range.1.max(line);
                at + 1
            }
            // The line directly precedes the range. The range before it ends earlier, so they do
            // not touch.
            Some(range) if range.0 == line.saturating_add(1) => {
                range.0 = line;
                return;
            }
            _ => {
                self.0.insert(at, (line, line));
                return;
            }
        };
        // The extended range may now adjoin the next one: merge them.
        if let (Some(&(_, end)), Some(&(first, last))) = (self.0.get(at), self.0.get(next))
            && first <= end.saturating_add(1)
        {
            self.0.remove(next);
            if let Some(range) = self.0.get_mut(at) {
                range.1 = range.1.max(last);
            }
        }
    }
}

impl FromIterator<u32> for Lines {
    fn from_iter<I: IntoIterator<Item = u32>>(lines: I) -> Self {
        let mut all = Self::default();
        lines.into_iter().for_each(|line| all.add(line));
        all
    }
}

/// Source of a batch job: the lines that were submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// Id of the batch that was submitted, from which the ids of the members are derived. A retry
    /// of a batch has another job id, but the same `batch_id` and so the same members.
    pub batch_id: JobId,
    /// Number of lines that were submitted.
    pub lines: u32,
    /// Lines that were refused because they are not valid jobs. They have no member.
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    pub refused: Lines,
}

impl Batch {
    /// Returns the id of the member that was created from a line of the batch `batch_id`.
    #[must_use]
    pub fn member(owner: &Owner, batch_id: JobId, line: u32) -> JobId {
        JobId::derive("line", owner, &format!("{batch_id}.{line}"))
    }

    /// Returns the accepted lines and the ids of their members.
    pub fn members<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (u32, JobId)> + 'a {
        let accepted = (1..=self.lines).filter(|line| !self.refused.contains(*line));
        accepted.map(|line| (line, Self::member(owner, self.batch_id, line)))
    }
}

/// Number of lines of a batch by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Members that wait for their first or their next attempt.
    pub queued: u32,
    /// Members that are being counted.
    pub running: u32,
    /// Members that succeeded.
    pub succeeded: u32,
    /// Members that failed.
    pub failed: u32,
    /// Members that were cancelled.
    pub cancelled: u32,
    /// Members that were deleted or expired before the batch was final.
    pub gone: u32,
    /// Lines that are not valid jobs and were refused.
    pub refused: u32,
}

/// Progress of the members of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchProgress {
    /// Number of lines by status.
    pub counts: Counts,
    /// Lines whose member is final. They are not read again until the results are added up.
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    pub settled: Lines,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_lines_are_merged_into_ranges() {
        // Adds the lines in every order, by recursion over all permutations.
        fn check(rest: &mut Vec<u32>, lines: &Lines, added: &mut Vec<u32>) {
            for line in 0..9 {
                assert_eq!(lines.contains(line), added.contains(&line), "{line} in {lines:?}");
            }
            assert_eq!(lines.count() as usize, added.len(), "{lines:?}");
            assert!(lines.0.windows(2).all(|two| two[0].1 + 1 < two[1].0), "{lines:?}");
            for at in 0..rest.len() {
                let line = rest.remove(at);
                let mut more = lines.clone();
                more.add(line);
                more.add(line);
                added.push(line);
                check(rest, &more, added);
                added.pop();
                rest.insert(at, line);
            }
        }
        check(&mut vec![1, 2, 3, 4, 6, 7], &Lines::default(), &mut Vec::new());
        let lines: Lines = [5, 1, 2, 3, 7].into_iter().collect();
        assert_eq!(serde_json::to_string(&lines).unwrap(), "[[1,3],[5,5],[7,7]]");
        assert!(Lines::default().is_empty() && !lines.is_empty());
    }

    #[test]
    fn member_ids_are_derived_from_batch_and_line() {
        let owner = Owner::public();
        let batch_id = JobId::new();
        let refused = [2].into_iter().collect();
        let batch = Batch { batch_id, lines: 3, refused };
        let members: Vec<_> = batch.members(&owner).collect();
        let of = |line| (line, Batch::member(&owner, batch_id, line));
        assert_eq!(members, [of(1), of(3)]);
        assert_ne!(members[0].1, members[1].1);
        assert_ne!(Batch::member(&owner, JobId::new(), 1), members[0].1);
    }
}
