//! Where results go: standard output or a file.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::progress::Progress;
use crate::text::is_control;

/// Where results go. Once there are some, no progress is shown any more.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    progress: &'a Progress,
    destination: Destination,
    /// The beginning of a character whose end has not come yet.
    buffered: Vec<u8>,
}

#[derive(Debug)]
enum Destination {
    /// What is written there is read by other programs.
    Pipe(BufWriter<io::Stdout>),
    /// A terminal obeys what it is sent.
    Terminal(BufWriter<io::Stdout>),
    /// A file that appears whole or not at all.
    New(BufWriter<NamedTempFile>, PathBuf),
    /// Something that can only be written into, such as `/dev/null`.
    Device(BufWriter<File>, PathBuf),
}

impl<'a> Output<'a> {
    /// Opens a file, or standard output if none is named.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn open(progress: &'a Progress, path: Option<&Path>) -> Result<Self, Error> {
        let destination = match path {
            None if io::stdout().is_terminal() => {
                Destination::Terminal(BufWriter::new(io::stdout()))
            }
            None => Destination::Pipe(BufWriter::new(io::stdout())),
            Some(path) => open(path).map_err(Error::file(cannot_write(path)))?,
        };
        Ok(Self { progress, destination, buffered: Vec::new() })
    }

    /// Writes a text.
    ///
    /// # Errors
    /// [`Error::File`], and [`Error::NobodyReads`] if the reader has gone.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes, which are UTF-8 in the end, but may be cut anywhere.
    ///
    /// # Errors
    /// Those of [`Self::text`].
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.progress.end();
        let written = match &mut self.destination {
            Destination::Terminal(out) => {
                self.buffered.extend_from_slice(bytes);
                let text = take_printable(&mut self.buffered);
                out.write_all(text.as_bytes())
            }
            Destination::Pipe(out) => out.write_all(bytes),
            Destination::New(out, _) => out.write_all(bytes),
            Destination::Device(out, _) => out.write_all(bytes),
        };
        written.map_err(|error| self.failed(error))
    }

    /// Writes what is left, and lets the file appear.
    ///
    /// # Errors
    /// Those of [`Self::text`].
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let flushed = match &mut self.destination {
            Destination::Terminal(out) | Destination::Pipe(out) => out.flush(),
            Destination::New(out, _) => out.flush(),
            Destination::Device(out, _) => out.flush(),
        };
        flushed.map_err(|error| self.failed(error))?;
        if let Destination::New(out, path) = self.destination {
            let what = cannot_write(&path);
            let file = out.into_inner().map_err(|error| error.into_error());
            let persisted = file.and_then(|file| file.persist(&path).map_err(|error| error.error));
            persisted.map_err(Error::file(what))?;
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        match &self.destination {
            _ if error.kind() == io::ErrorKind::BrokenPipe => Error::ClosedPipe,
            Destination::Terminal(_) | Destination::Pipe(_) => {
                Error::file("cannot write to standard output")(error)
            }
            Destination::New(_, path) | Destination::Device(_, path) => {
                Error::file(cannot_write(path))(error)
            }
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn open(path: &Path) -> io::Result<Destination> {
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path)?;
        return Ok(Destination::Device(BufWriter::new(file), path.to_owned()));
    }
    // What a link leads to is replaced, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mode = path.metadata().map_or(0o666, |metadata| metadata.permissions().mode() & 0o777);
    let file = tempfile::Builder::new()
        .prefix(".wordmill-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
    Ok(Destination::New(BufWriter::new(file), path))
}

/// Removes the complete characters from `buffered`, and returns them without control characters,
/// except for ends of lines.
fn take_printable(buffered: &mut Vec<u8>) -> String {
    let complete_bytes = match std::str::from_utf8(buffered) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => buffered.len(),
    };
    let rest = buffered.split_off(complete_bytes);
    let text = String::from_utf8_lossy(buffered)
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| if is_control(c) && c != '\n' { '\u{fffd}' } else { c })
        .collect();
    *buffered = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_whole_characters_and_nothing_to_obey() {
        let mut buffered = b"a\x1b[2J\r\n\xe6\x97".to_vec();
        assert_eq!(take_printable(&mut buffered), "a\u{fffd}[2J\n");
        assert_eq!(buffered, b"\xe6\x97");
        buffered.extend(b"\xa5\xc2\x9b\xff.");
        assert_eq!(take_printable(&mut buffered), "日\u{fffd}\u{fffd}.");
        assert!(buffered.is_empty());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let progress = Progress::new(true);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut out = Output::open(&progress, Some(&path)).unwrap();
        out.text("half").unwrap();
        drop(out);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut out = Output::open(&progress, Some(&path)).unwrap();
        out.text("a\u{1b}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        out.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\u{1b}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let mut out = Output::open(&progress, Some(Path::new("/dev/null"))).unwrap();
        out.text("a").unwrap();
        out.finish().unwrap();
        assert!(Output::open(&progress, Some(&path.join("below"))).is_err());
    }
}
