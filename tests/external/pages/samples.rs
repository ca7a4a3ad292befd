//! The pages: installed files and saved pages of the web. None of them is in the repository.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wordmill_tests::repository;

/// Directory of Debian's package `installation-guide-amd64`.
const GUIDE: &str = "/usr/share/doc/installation-guide-amd64";
/// Languages of the guide, as in its paths: 4 scripts with spaces, and 2 languages without.
const LANGUAGES: [&str; 19] = [
    "ca", "cs", "da", "de", "el", "en", "es", "fr", "id", "it", "ja", "ko", "nl", "pt", "ro", "ru",
    "sv", "vi", "zh_CN",
];
/// Pages of the guide: prose, tables, commands, lists of options.
const PAGES: [&str; 3] = ["ch02s01.html", "ch05s03.html", "apbs04.html"];
/// Directory of Debian's packages `developers-reference` and `developers-reference-<language>`,
/// whose pages mark their navigation.
const REFERENCE: &str = "/usr/share/developers-reference";
const REFERENCE_LANGUAGES: [&str; 6] = ["en", "de", "fr", "it", "ja", "ru"];
const REFERENCE_PAGES: [&str; 2] = ["resources.html", "beyond-pkging.html"];
/// Directory of Debian's packages `debian-faq-<language>`.
const FAQ: &str = "/usr/share/doc/debian/FAQ";
const FAQ_PAGES: [&str; 4] = [
    "pt/choosing.pt.html",
    "pt/basic-defs.pt.html",
    "zh-cn/choosing.zh-cn.html",
    "zh-cn/basic-defs.zh-cn.html",
];
/// Files among the saved pages that are not compared: tests of single elements, redirections, a
/// feed, a page whose text is in its scripts, and a copy of another page.
const OMITTED_FILES: [&str; 7] = [
    "ap_meta_refresh.html",
    "exotic_tags.html",
    "exotic_tags_tei.html",
    "google_meta_refresh.html",
    "sample_rss.html",
    "scmp.com.playbook.html",
    "video_article_01.html",
];

/// A page.
pub struct Sample {
    pub name: String,
    pub file: PathBuf,
    /// Content-Type of the response.
    pub content_type: &'static str,
    /// Language of the word boundaries as a BCP 47 tag.
    pub language: String,
    /// Scopes to compare. `main` is included only if the page marks its main content.
    pub scopes: &'static [&'static str],
}

impl Sample {
    fn installed(
        folder: &str,
        path: &str,
        language: &str,
        scopes: &'static [&'static str],
    ) -> Self {
        let name = Path::new(folder).file_name().expect("a name").to_string_lossy();
        Self {
            name: format!("{name}/{path}"),
            file: Path::new(folder).join(path),
            content_type: "text/html; charset=utf-8",
            language: language.replace('_', "-"),
            scopes,
        }
    }

    /// Returns a saved page. Its response does not name the charset, so both programs have to find
    /// it in the page.
    fn saved(file: PathBuf) -> Self {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        Self { name, file, content_type: "text/html", language: "en".to_owned(), scopes: &["page"] }
    }
}

/// Returns the pages of three Debian manuals, each made by another generator, and of the book of
/// the Rust toolchain.
pub fn installed_pages() -> Vec<Sample> {
    let mut pages = Vec::new();
    for language in LANGUAGES {
        for page in PAGES {
            pages.push(Sample::installed(
                GUIDE,
                &format!("{language}/{page}"),
                language,
                &["page"],
            ));
        }
    }
    for language in REFERENCE_LANGUAGES {
        for page in REFERENCE_PAGES {
            let path =
                if language == "en" { page.to_owned() } else { format!("{language}/{page}") };
            pages.push(Sample::installed(REFERENCE, &path, language, &["page", "main"]));
        }
    }
    for path in FAQ_PAGES {
        let language = path.split('/').next().expect("a language");
        pages.push(Sample::installed(FAQ, path, language, &["page"]));
    }
    for page in &pages {
        assert!(
            page.file.is_file(),
            "{} is missing: run tests/external/install",
            page.file.display()
        );
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let sysroot = String::from_utf8(output.stdout).expect("a path");
    let book = format!("{}/share/doc/rust/html/book", sysroot.trim());
    for page in ["ch04-01-what-is-ownership.html", "ch10-02-traits.html"] {
        // The toolchain may be installed without its documentation.
        if Path::new(&book).join(page).is_file() {
            pages.push(Sample::installed(&book, page, "en", &["page", "main"]));
        } else {
            println!("skipped, because the toolchain has no documentation: book/{page}");
        }
    }
    pages
}

/// Returns saved pages of the web: news, blogs, shops, encyclopedias, sites of organizations.
pub fn saved_pages() -> Vec<Sample> {
    let output = Command::new(repository().join("tests/external/saved-pages"))
        .stderr(Stdio::inherit())
        .output()
        .expect("tests/external/saved-pages runs");
    assert!(output.status.success(), "tests/external/saved-pages: {}", output.status);
    let folders = String::from_utf8(output.stdout).expect("paths");
    let mut pages = Vec::new();
    for folder in folders.lines() {
        let files = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder}: {e}"));
        pages.extend(files.map(|file| Sample::saved(file.expect("a file").path())));
    }
    pages.retain(|page| !OMITTED_FILES.contains(&page.name.as_str()));
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}
