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
pub(crate) struct Out<'a> {
    progress: &'a Progress,
    place: Place,
    /// The beginning of a character whose end has not come yet.
    held: Vec<u8>,
}

#[derive(Debug)]
enum Place {
    /// What is written there is read by other programs.
    Pipe(BufWriter<io::Stdout>),
    /// A terminal obeys what it is sent.
    Terminal(BufWriter<io::Stdout>),
    /// A file that appears whole or not at all.
    New(BufWriter<NamedTempFile>, PathBuf),
    /// Something that can only be written into, such as `/dev/null`.
    Device(BufWriter<File>, PathBuf),
}

impl<'a> Out<'a> {
    /// Opens a file, or standard output if none is named.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn open(progress: &'a Progress, path: Option<&Path>) -> Result<Self, Error> {
        let place = match path {
            None if io::stdout().is_terminal() => Place::Terminal(BufWriter::new(io::stdout())),
            None => Place::Pipe(BufWriter::new(io::stdout())),
            Some(path) => open(path).map_err(Error::file(cannot_write(path)))?,
        };
        Ok(Self { progress, place, held: Vec::new() })
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
        let written = match &mut self.place {
            Place::Terminal(out) => {
                self.held.extend_from_slice(bytes);
                let text = take_printable(&mut self.held);
                out.write_all(text.as_bytes())
            }
            Place::Pipe(out) => out.write_all(bytes),
            Place::New(out, _) => out.write_all(bytes),
            Place::Device(out, _) => out.write_all(bytes),
        };
        written.map_err(|error| self.failed(error))
    }

    /// Writes what is left, and lets the file appear.
    ///
    /// # Errors
    /// Those of [`Self::text`].
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let flushed = match &mut self.place {
            Place::Terminal(out) | Place::Pipe(out) => out.flush(),
            Place::New(out, _) => out.flush(),
            Place::Device(out, _) => out.flush(),
        };
        flushed.map_err(|error| self.failed(error))?;
        if let Place::New(out, path) = self.place {
            let what = cannot_write(&path);
            let file = out.into_inner().map_err(|error| error.into_error());
            let kept = file.and_then(|file| file.persist(&path).map_err(|error| error.error));
            kept.map_err(Error::file(what))?;
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> Error {
        match &self.place {
            _ if error.kind() == io::ErrorKind::BrokenPipe => Error::NobodyReads,
            Place::Terminal(_) | Place::Pipe(_) => {
                Error::file("cannot write to standard output")(error)
            }
            Place::New(_, path) | Place::Device(_, path) => Error::file(cannot_write(path))(error),
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

fn open(path: &Path) -> io::Result<Place> {
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path)?;
        return Ok(Place::Device(BufWriter::new(file), path.to_owned()));
    }
    // What a link leads to is replaced, not the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mode = path.metadata().map_or(0o666, |found| found.permissions().mode() & 0o777);
    let file = tempfile::Builder::new()
        .prefix(".wordmill-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
    Ok(Place::New(BufWriter::new(file), path))
}

/// Takes what is whole of `held`, and returns it without what a terminal would obey, except for ends
/// of lines.
fn take_printable(held: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(held) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Ok(_) | Err(_) => held.len(),
    };
    let rest = held.split_off(whole);
    let text = String::from_utf8_lossy(held)
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| if is_control(c) && c != '\n' { '\u{fffd}' } else { c })
        .collect();
    *held = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_whole_characters_and_nothing_to_obey() {
        let mut held = b"a\x1b[2J\r\n\xe6\x97".to_vec();
        assert_eq!(take_printable(&mut held), "a\u{fffd}[2J\n");
        assert_eq!(held, b"\xe6\x97");
        held.extend(b"\xa5\xc2\x9b\xff.");
        assert_eq!(take_printable(&mut held), "日\u{fffd}\u{fffd}.");
        assert!(held.is_empty());
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let progress = Progress::new(true);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut out = Out::open(&progress, Some(&path)).unwrap();
        out.text("half").unwrap();
        drop(out);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut out = Out::open(&progress, Some(&path)).unwrap();
        out.text("a\u{1b}").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        out.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\u{1b}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        let mut out = Out::open(&progress, Some(Path::new("/dev/null"))).unwrap();
        out.text("a").unwrap();
        out.finish().unwrap();
        assert!(Out::open(&progress, Some(&path.join("below"))).is_err());
    }
}
