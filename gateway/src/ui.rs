//! Serves the UI: the page at `/` and its files. They are embedded in the binary, so nothing is
//! read at run time or installed next to the gateway.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Path prefix of the UI's files. The page itself is at `/`.
const FOLDER: &str = "/page/";
/// Content Security Policy of the UI: it may load its own files and call this service. Trusted
/// Types prevent scripts from turning strings into HTML or code, so text of documents and responses
/// is never executed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
/// Browsers revalidate each file and receive `304` if it is unchanged. After an update, files of
/// two versions are therefore never mixed.
const CACHE_CONTROL_VALUE: &str = "no-cache";

/// A file of the UI.
#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! file {
    ($path:expr, $content_type:expr, $name:literal) => {
        File {
            path: $path,
            content_type: $content_type,
            content: include_str!(concat!("../page/", $name)),
        }
    };
    ($name:literal, $content_type:expr) => {
        file!(concat!("/page/", $name), $content_type, $name)
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// All files of `gateway/page`.
const FILES: [File; 18] = [
    file!("/", HTML, "index.html"),
    file!("api.js", SCRIPT),
    file!("app.js", SCRIPT),
    file!("batch.js", SCRIPT),
    file!("compose.js", SCRIPT),
    file!("dead_letters.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("explain.js", SCRIPT),
    file!("icon.svg", SVG),
    file!("job.js", SCRIPT),
    file!("jobs.js", SCRIPT),
    file!("options.js", SCRIPT),
    file!("page.css", CSS),
    file!("queue.js", SCRIPT),
    file!("result.js", SCRIPT),
    file!("sign_in.js", SCRIPT),
    file!("warnings.js", SCRIPT),
    file!("words.js", SCRIPT),
];

/// Returns whether a path belongs to the UI. The UI needs no key, because it contains no data of
/// jobs.
pub(crate) fn is_ui_path(path: &str) -> bool {
    path == "/" || path.starts_with(FOLDER)
}

/// Returns the routes of the UI.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, file| {
        let tag = tag(file.content);
        router.route(file.path, get(async move |headers: HeaderMap| serve(file, &tag, &headers)))
    })
}

fn serve(file: File, tag: &str, headers: &HeaderMap) -> Response {
    let fields = [
        (CACHE_CONTROL, CACHE_CONTROL_VALUE),
        (ETAG, tag),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if listed.flat_map(|value| value.split(',')).any(|listed| listed.trim() == tag) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, [(CONTENT_TYPE, file.content_type)], file.content).into_response()
}

/// Returns the entity tag of a file. It is a weak tag, because the same content is sent compressed
/// or not.
fn tag(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    let mut hexadecimal = HEXLOWER.encode(&digest);
    hexadecimal.truncate(32);
    format!("W/\"{hexadecimal}\"")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use wordmill_common::warning::WarningCode;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_without_a_key() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let files: BTreeSet<String> = names.map(|name| name.into_string().unwrap()).collect();
        let served = FILES.iter().map(|file| match file.path.strip_prefix(FOLDER) {
            Some(name) => name.to_owned(),
            None => "index.html".to_owned(),
        });
        assert_eq!(files, served.collect::<BTreeSet<_>>());
        assert!(FILES.iter().all(|file| is_ui_path(file.path)));
        assert!(!is_ui_path("/v1/jobs") && !is_ui_path("/pages"));
    }

    #[test]
    fn every_warning_has_a_description() {
        let script = include_str!("../page/warnings.js");
        for code in WarningCode::ALL {
            assert!(script.contains(&format!("\n  {code}: (count) => ")), "{code}");
        }
    }

    #[test]
    fn an_unchanged_file_is_answered_with_304() {
        let [page, ..] = FILES;
        let tag = tag(page.content);
        let get_status = |known: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.extend(known.map(|known| (IF_NONE_MATCH, known.parse().unwrap())));
            serve(page, &tag, &headers).status()
        };
        assert_eq!(get_status(None), StatusCode::OK);
        assert_eq!(get_status(Some("W/\"other\"")), StatusCode::OK);
        assert_eq!(get_status(Some(&format!("W/\"other\", {tag}"))), StatusCode::NOT_MODIFIED);
    }
}
