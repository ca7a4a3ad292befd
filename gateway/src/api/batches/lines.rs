//! Splits the body of a batch into jobs while it arrives: one per line, or one per element of an
//! array.

use bytes::{Buf, Bytes, BytesMut};

use crate::http::problem::{Code, Problem};

/// Format of the body of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One job per line. Empty lines are skipped.
    Lines,
    /// The elements of one JSON array.
    Array,
}

/// Position of a [`JobSplitter`] in an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArrayPosition {
    /// Before the opening bracket.
    Before,
    /// Before or inside an element, within `depth` objects and arrays of the element. `is_text`:
    /// inside a string. `is_escaped`: after a backslash in a string.
    Within { depth: u32, is_text: bool, is_escaped: bool },
    /// After the closing bracket.
    After,
}

/// A job that was split off the body.
#[derive(Debug)]
pub(super) enum SplitJob {
    /// The bytes of a complete job.
    Job(Bytes),
    /// The job was too large and was skipped. Further jobs may follow.
    Skipped(Problem),
}

const ELEMENT_START: ArrayPosition =
    ArrayPosition::Within { depth: 0, is_text: false, is_escaped: false };

/// Maximum size of a job that may share its allocation with the bytes after it.
const SHARED_JOB_BYTES_MAX: usize = 64 << 10;

/// Splits arriving bytes into jobs. It does not validate their JSON.
#[derive(Debug)]
pub(super) struct JobSplitter {
    shape: Shape,
    bytes_max: usize,
    buffer: BytesMut,
    /// Number of buffered bytes that were already scanned.
    scanned: usize,
    position: ArrayPosition,
    has_elements: bool,
    /// Whether the current job is too large and its start was discarded.
    is_skipping: bool,
}

impl JobSplitter {
    /// Returns an empty splitter for jobs of up to `bytes_max` bytes.
    pub(super) fn new(shape: Shape, bytes_max: usize) -> Self {
        let buffer = BytesMut::new();
        let position = ArrayPosition::Before;
        Self {
            shape,
            bytes_max,
            buffer,
            scanned: 0,
            position,
            has_elements: false,
            is_skipping: false,
        }
    }

    /// Returns the number of buffered bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Appends received bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete job.
    ///
    /// # Errors
    /// `invalid_json` if the body is not an array. The splitter cannot continue after an error.
    pub(super) fn next(&mut self) -> Result<Option<SplitJob>, Problem> {
        let job = match self.shape {
            Shape::Lines => self.next_line(),
            Shape::Array => self.next_element()?,
        };
        if job.is_none() && self.buffer.len() > self.bytes_max {
            // Discard the start of an oversized job: only its end is still needed.
            self.buffer = BytesMut::new();
            self.scanned = 0;
            self.is_skipping = true;
        }
        Ok(job.map(|job| self.check_size(job)))
    }

    /// Returns the job, or a problem if it is larger than the limit.
    fn check_size(&mut self, job: Bytes) -> SplitJob {
        let is_whole = !std::mem::take(&mut self.is_skipping);
        if is_whole && job.len() <= self.bytes_max {
            return SplitJob::Job(job);
        }
        let detail =
            format!("The job is larger than {} bytes (WORDMILL_JSON_SIZE_MAX).", self.bytes_max);
        SplitJob::Skipped(Problem::new(Code::InputTooLarge, detail))
    }

    /// Returns the last job. Call it after all bytes have arrived.
    ///
    /// # Errors
    /// Those of [`JobSplitter::next`], and `invalid_json` if the array is not closed.
    pub(super) fn end(&mut self) -> Result<Option<SplitJob>, Problem> {
        match self.shape {
            Shape::Lines => {
                let rest = self.buffer.split().freeze();
                let is_job = self.is_skipping || !rest.trim_ascii().is_empty();
                Ok(is_job.then(|| self.check_size(rest)))
            }
            Shape::Array if self.position == ArrayPosition::After => Ok(None),
            Shape::Array => Err(Problem::new(Code::InvalidJson, "The array is not closed.")),
        }
    }

    fn next_line(&mut self) -> Option<Bytes> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(length) = unseen.iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                return None;
            };
            let line = self.split_job(self.scanned + length);
            if self.is_skipping || !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// Splits off a job of `length` bytes, and removes the separator after it.
    ///
    /// Both parts share one allocation. After a large job the rest is copied, because a few bytes
    /// would otherwise keep the whole allocation alive.
    fn split_job(&mut self, length: usize) -> Bytes {
        let job = self.buffer.split_to(length).freeze();
        self.buffer.advance(1);
        self.scanned = 0;
        if job.len() > SHARED_JOB_BYTES_MAX {
            self.buffer = BytesMut::from(self.buffer.as_ref());
        }
        job
    }

    fn next_element(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
            match self.position {
                ArrayPosition::Before | ArrayPosition::After if is_space => self.buffer.advance(1),
                ArrayPosition::Before if byte == b'[' => {
                    self.buffer.advance(1);
                    self.position = ELEMENT_START;
                }
                ArrayPosition::Before => {
                    let detail = "An array of jobs must begin with a bracket.";
                    return Err(Problem::new(Code::InvalidJson, detail));
                }
                ArrayPosition::After => {
                    let detail = "Unexpected data after the end of the array.";
                    return Err(Problem::new(Code::InvalidJson, detail));
                }
                // A comma or bracket ends an element only outside of strings, objects and arrays.
                ArrayPosition::Within { depth: 0, is_text: false, .. }
                    if matches!(byte, b',' | b']') =>
                {
                    if let Some(element) = self.split_element(byte) {
                        return Ok(Some(element));
                    }
                }
                ArrayPosition::Within { depth, is_text, is_escaped } => {
                    self.position = next_position(byte, depth, is_text, is_escaped);
                    self.scanned += 1;
                }
            }
        }
        Ok(None)
    }

    /// Splits off the element before a comma or the closing bracket. Returns `None` for an empty
    /// array.
    fn split_element(&mut self, byte: u8) -> Option<Bytes> {
        let element = self.split_job(self.scanned);
        self.position = if byte == b']' { ArrayPosition::After } else { ELEMENT_START };
        let is_last_and_only = byte == b']' && !self.has_elements && !self.is_skipping;
        let is_empty_array = is_last_and_only && element.trim_ascii().is_empty();
        self.has_elements = true;
        (!is_empty_array).then_some(element)
    }
}

/// Returns the position after one byte of an element.
fn next_position(byte: u8, depth: u32, is_text: bool, is_escaped: bool) -> ArrayPosition {
    let (depth, is_text, is_escaped) = match byte {
        _ if is_escaped => (depth, is_text, false),
        b'\\' if is_text => (depth, true, true),
        b'"' => (depth, !is_text, false),
        b'{' | b'[' if !is_text => (depth.saturating_add(1), false, false),
        b'}' | b']' if !is_text => (depth.saturating_sub(1), false, false),
        _ => (depth, is_text, false),
    };
    ArrayPosition::Within { depth, is_text, is_escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Splits a text that arrives in chunks of `chunk` bytes. Returns the jobs and the code of the
    /// problem.
    fn split(shape: Shape, text: &str, chunk: usize) -> (Vec<String>, Option<&'static str>) {
        let mut splitter = JobSplitter::new(shape, 40);
        let mut jobs = Vec::new();
        let text_of = |job: SplitJob| match job {
            SplitJob::Job(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            SplitJob::Skipped(problem) => problem.code_name().to_owned(),
        };
        for part in text.as_bytes().chunks(chunk) {
            splitter.push(part);
            loop {
                match splitter.next() {
                    Ok(Some(job)) => jobs.push(text_of(job)),
                    Ok(None) => break,
                    Err(problem) => return (jobs, Some(problem.code_name())),
                }
            }
        }
        match splitter.end() {
            Ok(last) => jobs.extend(last.map(text_of)),
            Err(problem) => return (jobs, Some(problem.code_name())),
        }
        (jobs, None)
    }

    #[test]
    fn a_large_job_does_not_keep_its_allocation_alive() {
        let size = 1 << 20;
        let rest = b"{\"te";
        for large in ["x".repeat(size) + "\n", "x".repeat(size + 1)] {
            let mut splitter = JobSplitter::new(Shape::Lines, size);
            splitter.push(large.as_bytes());
            drop(splitter.next().unwrap());
            splitter.push(rest);
            // `reserve` reclaims the unused front of the allocation.
            splitter.buffer.reserve(1);
            assert!(
                splitter.buffer.capacity() < SHARED_JOB_BYTES_MAX,
                "{}",
                splitter.buffer.capacity()
            );
        }
    }

    #[test]
    fn parsing_does_not_depend_on_chunk_boundaries() {
        let exact = "x".repeat(40);
        let long = "x".repeat(41);
        let longer = "x".repeat(123);
        let skipped = ["a", "input_too_large", "input_too_large", "b"];
        let cases: &[(Shape, &str, &[&str], Option<&str>)] = &[
            (Shape::Lines, "{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"], None),
            (Shape::Lines, "\r\n\n a\n \nb", &[" a", "b"], None),
            (Shape::Lines, "", &[], None),
            // Oversized jobs are skipped, and only those.
            (Shape::Lines, &long, &["input_too_large"], None),
            (Shape::Lines, &format!("a\n{long}\n\n{longer}\nb"), &skipped, None),
            (Shape::Lines, &format!("{exact}\n{long}"), &[&exact, "input_too_large"], None),
            (Shape::Array, &format!("[a,{long},{longer},b]"), &skipped, None),
            (Shape::Array, &format!("[{longer}]"), &["input_too_large"], None),
            (Shape::Array, &format!("[\"{longer}],[{longer}\"]"), &["input_too_large"], None),
            (Shape::Array, &format!("[1,{longer}"), &["1"], Some("invalid_json")),
            (Shape::Array, " [ {\"a\": [1, 2]} ,{}]\n", &[" {\"a\": [1, 2]} ", "{}"], None),
            (Shape::Array, r#"[{"a":"],\"}"},7]"#, &[r#"{"a":"],\"}"}"#, "7"], None),
            (Shape::Array, r#"["\\",1]"#, &[r#""\\""#, "1"], None),
            (Shape::Array, "[]", &[], None),
            (Shape::Array, "[ ]", &[], None),
            (Shape::Array, "[,]", &["", ""], None),
            (Shape::Array, "[1,", &["1"], Some("invalid_json")),
            (Shape::Array, "[1] 2", &["1"], Some("invalid_json")),
            (Shape::Array, "{}", &[], Some("invalid_json")),
            (Shape::Array, "", &[], Some("invalid_json")),
        ];
        for (shape, text, jobs, expected_problem) in cases {
            for chunk in 1..=text.len().max(1) {
                let (split_jobs, problem) = split(*shape, text, chunk);
                assert_eq!(
                    (split_jobs.as_slice(), problem),
                    (&jobs.map_owned()[..], *expected_problem),
                    "{text}"
                );
            }
        }
    }

    trait Owned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl Owned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|&text| text.to_owned()).collect()
        }
    }
}
