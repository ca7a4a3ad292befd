//! Sources to count: files, folders, URLs and standard input.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;

/// Maximum number of sources of one invocation.
pub(crate) const SOURCES_MAX: usize = 10_000;
/// Maximum number of bytes that are read from a pipe. They are copied to a temporary file, so that
/// their size is known and they can be sent again.
const PIPED_BYTES_MAX: u64 = 4 << 30;
/// Number of bytes that decide whether a file in a folder is text.
const SNIFFED_BYTES: u64 = 8 << 10;
/// Maximum depth of folders below one that is given as an argument.
const DEPTH_MAX: usize = 100;
/// Argument for standard input.
const STDIN: &str = "-";

/// One source to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Web page that the server fetches.
    Url(String),
    /// File or named pipe.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// All sources of one invocation.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) all: Vec<Source>,
    /// Number of files in folders that were skipped because they are not text.
    pub(crate) skipped_files: usize,
}

/// Open file that can be sent several times.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) file: Arc<File>,
    pub(crate) size_bytes: u64,
}

impl Source {
    /// Returns the name for messages and tables.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Url(url) => url.clone(),
            Self::File(path) => path.to_string_lossy().into_owned(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// Returns the size of a file in bytes, or 0 for other sources, whose size is unknown.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::File(path) => fs::metadata(path).map_or(0, |metadata| metadata.len()),
            Self::Url(_) | Self::Stdin => 0,
        }
    }
}

/// Finds the sources for the arguments. Blocks while it reads folders.
///
/// # Errors
/// [`Error::Usage`] if there are no sources or too many, [`Error::File`] if a folder cannot be
/// read.
pub(crate) fn find(arguments: &[PathBuf]) -> Result<Sources, Error> {
    if arguments.is_empty() {
        if io::stdin().is_terminal() {
            let detail =
                "nothing to count: give files, folders or URLs, or pipe text to standard input";
            return Err(Error::Usage(detail.to_owned()));
        }
        return Ok(Sources { all: vec![Source::Stdin], skipped_files: 0 });
    }
    let mut sources = Sources::default();
    for name in arguments {
        if name.as_os_str() == STDIN {
            if sources.all.contains(&Source::Stdin) {
                return Err(Error::Usage("standard input (-) is given more than once".to_owned()));
            }
            sources.add(Source::Stdin)?;
        } else if let Some(url) = name.to_str().filter(|name| is_url(name)) {
            sources.add(Source::Url(url.to_owned()))?;
        } else if name.is_dir() {
            sources.add_folder(name)?;
        } else {
            sources.add(Source::File(name.clone()))?;
        }
    }
    if sources.all.is_empty() {
        let detail = "the given folders contain no text files";
        return Err(Error::Usage(detail.to_owned()));
    }
    Ok(sources)
}

fn is_url(name: &str) -> bool {
    let scheme = name.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

impl Sources {
    fn add(&mut self, source: Source) -> Result<(), Error> {
        if self.all.len() >= SOURCES_MAX {
            let detail = format!("more than {SOURCES_MAX} sources; give fewer");
            return Err(Error::Usage(detail));
        }
        self.all.push(source);
        Ok(())
    }

    /// Adds the text files below a folder, sorted by name. Skips hidden files, and symbolic links,
    /// which may form a cycle or lead to files that are already included.
    fn add_folder(&mut self, top: &Path) -> Result<(), Error> {
        let mut pending = vec![(top.to_owned(), 0)];
        while let Some((folder, depth)) = pending.pop() {
            let cannot = || Error::file(format!("cannot read the folder {}", folder.display()));
            let mut files = Vec::new();
            let mut folders = Vec::new();
            for entry in fs::read_dir(&folder).map_err(cannot())? {
                let entry = entry.map_err(cannot())?;
                let kind = entry.file_type().map_err(cannot())?;
                let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                match kind {
                    _ if is_hidden => {}
                    kind if kind.is_dir() => folders.push((entry.path(), depth + 1)),
                    kind if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
            files.sort_unstable();
            folders.sort_unstable();
            for path in files {
                // A file that cannot be opened is reported when it is sent.
                if looks_like_text(&path).unwrap_or(true) {
                    self.add(Source::File(path))?;
                } else {
                    self.skipped_files += 1;
                }
            }
            folders.retain(|(_, depth)| *depth <= DEPTH_MAX);
            // Reversed, because the last folder is visited first.
            pending.extend(folders.into_iter().rev());
        }
        Ok(())
    }
}

/// Returns whether a file seems to be text. Images, archives and programs contain zero bytes.
/// UTF-16 text does, too, but starts with a byte order mark.
fn looks_like_text(path: &Path) -> io::Result<bool> {
    let mut start = Vec::new();
    File::open(path)?.take(SNIFFED_BYTES).read_to_end(&mut start)?;
    Ok(is_text(&start))
}

fn is_text(start: &[u8]) -> bool {
    let is_utf16 = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
    (is_utf16 || !start.contains(&0)) && !start.starts_with(b"%PDF-")
}

impl Document {
    /// Opens a file, or copies a pipe to a temporary file. Blocks.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::LimitExceeded`] if a pipe contains more than
    /// [`PIPED_BYTES_MAX`].
    pub(crate) fn open(source: &Source) -> Result<Self, Error> {
        let name = source.name();
        let cannot = || Error::file(format!("cannot read {name}"));
        match source {
            Source::File(path) => {
                let file = File::open(path).map_err(cannot())?;
                let metadata = file.metadata().map_err(cannot())?;
                if metadata.is_file() {
                    return Ok(Self { file: Arc::new(file), size_bytes: metadata.len() });
                }
                Self::copy_pipe(&name, file)
            }
            Source::Stdin | Source::Url(_) => Self::copy_pipe(&name, io::stdin().lock()),
        }
    }

    fn copy_pipe(name: &str, piped: impl Read) -> Result<Self, Error> {
        let mut file =
            tempfile::tempfile().map_err(Error::file("cannot write a temporary file"))?;
        let mut piped = piped.take(PIPED_BYTES_MAX + 1);
        let size_bytes = io::copy(&mut piped, &mut file)
            .map_err(Error::file(format!("cannot copy {name} to a temporary file")))?;
        if size_bytes > PIPED_BYTES_MAX {
            let detail = format!("{name} is larger than {} GiB", PIPED_BYTES_MAX >> 30);
            return Err(Error::LimitExceeded(detail));
        }
        Ok(Self { file: Arc::new(file), size_bytes })
    }
}

/// Returns the content type for the file extension. With `None`, the service detects the type.
pub(crate) fn content_type(source: &Source) -> Option<&'static str> {
    let Source::File(path) = source else {
        return None;
    };
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "html" | "htm" => Some("text/html"),
        "xhtml" | "xht" => Some("application/xhtml+xml"),
        "md" | "markdown" => Some("text/markdown"),
        "txt" | "text" => Some("text/plain"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_files_are_distinguished() {
        for (name, expected) in [
            ("http://a/b", true),
            ("HTTPS://a", true),
            ("a.txt", false),
            ("ftp://a", false),
            ("http:/a", false),
            ("http", false),
        ] {
            assert_eq!(is_url(name), expected, "{name}");
        }
    }

    #[test]
    fn the_content_type_follows_from_the_extension() {
        let of = |name: &str| content_type(&Source::File(name.into()));
        assert_eq!(of("a/b.HTML"), Some("text/html"));
        assert_eq!(of("b.md"), Some("text/markdown"));
        assert_eq!(of("b.rs"), None);
        assert_eq!(of("html"), None);
        assert_eq!(content_type(&Source::Stdin), None);
    }

    #[test]
    fn hidden_linked_and_binary_files_in_folders_are_skipped() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for folder in ["b", "b/deep", ".git"] {
            fs::create_dir(path(folder)).unwrap();
        }
        for (name, content) in [
            ("z.txt", b"z".as_slice()),
            ("a.txt", b""),
            ("b/c.md", b"c"),
            ("b/deep/d", "d\u{e9}".as_bytes()),
            ("b/utf16.txt", b"\xff\xfea\0"),
            ("picture.png", b"\x89PNG\0\0"),
            ("paper.pdf", b"%PDF-1.7"),
            (".hidden", b"h"),
            (".git/config", b"h"),
        ] {
            fs::write(path(name), content).unwrap();
        }
        std::os::unix::fs::symlink(top.path(), path("b/cycle")).unwrap();
        let sources = find(&[top.path().to_owned()]).unwrap();
        let names: Vec<String> = sources.all.iter().map(Source::name).collect();
        let expected = ["a.txt", "z.txt", "b/c.md", "b/utf16.txt", "b/deep/d"];
        let expected = expected.map(|name| path(name).to_string_lossy().into_owned());
        assert_eq!((names.as_slice(), sources.skipped_files), (&expected[..], 2));
        // A file given by name is always sent, even if it is not text.
        let arguments = [path("picture.png"), path("nowhere"), PathBuf::from("-")];
        assert_eq!(find(&arguments).unwrap().all.len(), 3);
        assert!(find(&[PathBuf::from("-"), PathBuf::from("-")]).is_err());
        assert!(find(&[path(".git")]).is_ok());
    }

    #[test]
    fn a_pipe_can_be_read_again() {
        let document = Document::copy_pipe("-", b"to be".as_slice()).unwrap();
        assert_eq!(document.size_bytes, 5);
        let mut content = [0; 5];
        std::os::unix::fs::FileExt::read_exact_at(&*document.file, &mut content, 0).unwrap();
        assert_eq!(&content, b"to be");
    }
}
