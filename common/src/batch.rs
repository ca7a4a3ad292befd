//! Batches: many jobs that were submitted together, and a job that adds up what they found.
//!
//! The batch itself is a job, whose source is its members. Nobody lists them: a member's id follows
//! from the batch and the line that it came from, so whoever knows the batch knows its members, and a
//! batch that is submitted again meets the same ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{JobId, Owner};

/// Lines of a batch, from 1: ranges that neither overlap nor touch, in order, both ends included.
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

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether `line` is among them.
    #[must_use]
    pub fn contains(&self, line: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= line);
        let range = after.checked_sub(1).and_then(|at| self.0.get(at));
        range.is_some_and(|(_, last)| line <= *last)
    }

    /// Adds a line; one that is there already stays.
    pub fn add(&mut self, line: u32) {
        let at = self.0.partition_point(|(_, last)| last.saturating_add(1) < line);
        let next = match self.0.get_mut(at) {
            Some(range) if range.0 <= line => {
                range.1 = range.1.max(line);
                at + 1
            }
            Some(range) if range.0 == line.saturating_add(1) => {
                range.0 = line;
                return;
            }
            _ => {
                self.0.insert(at, (line, line));
                return;
            }
        };
        // Two ranges may touch now.
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

/// The jobs that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// What the members' ids follow from: the id of the batch that was submitted. A batch that is
    /// done again has another id of its own, and the same members.
    pub batch_id: JobId,
    /// How many lines were sent.
    pub lines: u32,
    /// Those of them that are no jobs.
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    pub refused: Lines,
}

impl Batch {
    /// Returns the id of the job that comes from a line of the batch `batch_id`.
    #[must_use]
    pub fn member(owner: &Owner, batch_id: JobId, line: u32) -> JobId {
        JobId::derived("line", owner, &format!("{batch_id}.{line}"))
    }

    /// Returns the lines that are jobs, and the ids of these.
    pub fn members<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (u32, JobId)> + 'a {
        let accepted = (1..=self.lines).filter(|line| !self.refused.contains(*line));
        accepted.map(|line| (line, Self::member(owner, self.batch_id, line)))
    }
}

/// How many of a batch's lines are how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// They wait, for the first time or for another attempt.
    pub queued: u32,
    /// They are being counted.
    pub running: u32,
    /// They are counted.
    pub succeeded: u32,
    /// They failed.
    pub failed: u32,
    /// They were withdrawn.
    pub cancelled: u32,
    /// They were deleted or have expired before the batch was done.
    pub gone: u32,
    /// They were no jobs.
    pub refused: u32,
}

/// What is known of a batch's members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchProgress {
    /// How many are how far.
    pub counts: Counts,
    /// Those that are final, and need not be looked at again until they are added up.
    #[serde(default, skip_serializing_if = "Lines::is_empty")]
    pub settled: Lines,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_any_order_become_few_ranges() {
        // Every order of a few lines, by a walk through all permutations.
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
    fn members_follow_from_the_batch_and_the_line() {
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
