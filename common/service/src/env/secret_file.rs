//! Secrets in files, as orchestrators mount them: `/run/secrets/...` of Compose, volumes of
//! Kubernetes.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use wordmill_common::secret::Secret;

use super::ByteSize;

/// Maximum size of a secret file. A larger file is not a secret but a wrong path.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Reads a secret from a file, without one line break at its end, which editors and `echo` add.
///
/// # Errors
/// A reason that does not contain the content of the file.
pub(super) fn read(path: &Path) -> Result<Secret, String> {
    let mut bytes = Vec::new();
    File::open(path)
        // One more byte shows that the file is too large, even if its metadata is wrong.
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read the file: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_BYTES_MAX {
        return Err(format!("the file is larger than {}", ByteSize(SECRET_BYTES_MAX)));
    }
    let text = String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?;
    let line = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let secret = line.unwrap_or(&text);
    if secret.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok(Secret::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file and reads it as a secret.
    fn read_content(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        read(&path).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn one_line_break_at_the_end_is_removed() {
        for (content, secret) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("hunter2\n\n", "hunter2\n"),
            ("hunter2\r", "hunter2\r"),
            (" hunter2 \n", " hunter2 "),
        ] {
            assert_eq!(read_content(content.as_bytes()).unwrap(), secret, "{content:?}");
        }
    }

    #[test]
    fn files_without_a_usable_secret_are_refused() {
        let max = usize::try_from(SECRET_BYTES_MAX).unwrap();
        assert_eq!(read_content(&vec![b'a'; max]).unwrap().len(), max);
        for (content, reason) in [
            (&b""[..], "the file is empty"),
            (b"\n", "the file is empty"),
            (b"\r\n", "the file is empty"),
            (b"hunter2\xff", "the file is not UTF-8 text"),
            (&vec![b'a'; max + 1], "the file is larger than 64KiB"),
        ] {
            assert_eq!(read_content(content).unwrap_err(), reason);
        }
    }

    #[test]
    fn missing_files_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(&folder.path().join("missing")).unwrap_err();
        assert!(error.contains("cannot read the file: No such file"), "{error}");
        let error = read(folder.path()).unwrap_err();
        assert!(error.contains("cannot read the file: Is a directory"), "{error}");
    }
}
