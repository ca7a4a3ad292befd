//! Output of results to standard output or to a file.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::progress::Progress;
use crate::text::is_control;

/// Destination of results. The first write ends the progress line.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    progress: &'a Progress,
    destination: Destination,
    /// Start of a UTF-8 character whose other bytes are missing. Used for terminals.
    buffered: Vec<u8>,
}

#[derive(Debug)]
enum Destination {
    /// Standard output that another program reads. Bytes are written unchanged.
    Pipe(BufWriter<io::Stdout>),
    /// Standard output on a terminal. Control characters are replaced.
    Terminal(BufWriter<io::Stdout>),
    /// Temporary file that is renamed to the path when it is complete.
    New(BufWriter<NamedTempFile>, PathBuf),
    /// Existing path that is not a regular file, for example `/dev/null`.
    Device(BufWriter<File>, PathBuf),
}

impl<'a> Output<'a> {
    /// Opens a file, or standard output without a path.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be created.
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

    /// Writes text.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::ClosedPipe`] if the reader has closed the pipe.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes of UTF-8 text. A call may end in the middle of a character.
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
        written.map_err(|error| self.to_error(error))
    }

    /// Flushes the output, and renames a temporary file to its path.
    ///
    /// # Errors
    /// Those of [`Self::text`].
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let flushed = match &mut self.destination {
            Destination::Terminal(out) | Destination::Pipe(out) => out.flush(),
            Destination::New(out, _) => out.flush(),
            Destination::Device(out, _) => out.flush(),
        };
        flushed.map_err(|error| self.to_error(error))?;
        if let Destination::New(out, path) = self.destination {
            let operation = cannot_write(&path);
            let file = out.into_inner().map_err(|error| error.into_error());
            let persisted = file.and_then(|file| file.persist(&path).map_err(|error| error.error));
            persisted.map_err(Error::file(operation))?;
        }
        Ok(())
    }

    fn to_error(&self, error: io::Error) -> Error {
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
    // Replaces the target of a symbolic link and keeps the link.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mode = path.metadata().map_or(0o666, |metadata| metadata.permissions().mode() & 0o777);
    let file = tempfile::Builder::new()
        .prefix(".wordmill-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
    Ok(Destination::New(BufWriter::new(file), path))
}

/// Removes the complete characters from `buffered`, and returns them with control characters
/// replaced. Keeps line feeds and removes carriage returns.
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
    fn terminal_output_has_no_control_characters() {
        let mut buffered = b"a\x1b[2J\r\n\xe6\x97".to_vec();
        assert_eq!(take_printable(&mut buffered), "a\u{fffd}[2J\n");
        assert_eq!(buffered, b"\xe6\x97");
        buffered.extend(b"\xa5\xc2\x9b\xff.");
        assert_eq!(take_printable(&mut buffered), "日\u{fffd}\u{fffd}.");
        assert!(buffered.is_empty());
    }

    #[test]
    fn a_file_is_replaced_only_when_the_output_is_complete() {
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
