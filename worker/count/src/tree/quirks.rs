//! Quirks mode: the rules for old pages, which have no document type declaration or an old one.

/// Starts of the public identifiers of old document types, in lower case. The HTML standard lists
/// each version of them.
const QUIRKS_PUBLIC_PREFIXES: [&str; 20] = [
    "+//silmaril//dtd html pro",
    "-//advasoft ltd//dtd html 3.0",
    "-//as//dtd html 3.0",
    "-//ietf//dtd html",
    "-//metrius//dtd metrius",
    "-//microsoft//dtd internet explorer",
    "-//netscape comm. corp.//dtd",
    "-//o'reilly and associates//dtd html",
    "-//softquad//dtd hotmetal",
    "-//softquad software//dtd hotmetal",
    "-//spyglass//dtd html 2.0",
    "-//sq//dtd html 2.0 hotmetal",
    "-//sun microsystems corp.//dtd hotjava",
    "-//w3c//dtd html 3",
    "-//w3c//dtd html 4.0 frameset//",
    "-//w3c//dtd html 4.0 transitional//",
    "-//w3c//dtd html experimental",
    "-//w3c//dtd w3 html",
    "-//w3o//dtd w3 html",
    "-//webtechs//dtd mozilla html",
];
/// Public identifiers of old document types.
const QUIRKS_PUBLIC_IDS: [&str; 2] = ["-/w3c/dtd html 4.0 transitional/en", "html"];
/// Starts of the public identifiers that stand for an old document type without a system
/// identifier.
const QUIRKS_PUBLIC_PREFIXES_WITHOUT_SYSTEM_ID: [&str; 2] =
    ["-//w3c//dtd html 4.01 frameset//", "-//w3c//dtd html 4.01 transitional//"];
const QUIRKS_SYSTEM_ID: &str = "http://www.ibm.com/data/dtd/v11/ibmxhtml1-transitional.dtd";

/// Returns whether a document type declaration, without `<!` and `>`, selects quirks mode. The
/// source of the rules is the insertion mode "initial" of the HTML standard.
pub(super) fn selects_quirks_mode(declaration: &str) -> bool {
    let text = declaration.to_ascii_lowercase();
    let Some(rest) = text.strip_prefix("doctype") else { return true };
    let rest = rest.trim_ascii_start();
    let name_bytes = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(name_bytes).unwrap_or_default();
    if name != "html" {
        return true;
    }
    let rest = rest.trim_ascii_start();
    if rest.is_empty() {
        return false;
    }
    let (public, system) = if let Some(rest) = rest.strip_prefix("public") {
        let Some((public, rest)) = quoted(rest) else { return true };
        (Some(public), quoted(rest).map(|(system, _)| system))
    } else if let Some(rest) = rest.strip_prefix("system") {
        let Some((system, _)) = quoted(rest) else { return true };
        (None, Some(system))
    } else {
        return true;
    };
    let is_old = |public: &str| {
        let has_start_in = |starts: &[&str]| starts.iter().any(|start| public.starts_with(start));
        QUIRKS_PUBLIC_IDS.contains(&public)
            || has_start_in(&QUIRKS_PUBLIC_PREFIXES)
            || (system.is_none() && has_start_in(&QUIRKS_PUBLIC_PREFIXES_WITHOUT_SYSTEM_ID))
    };
    public.is_some_and(is_old) || system == Some(QUIRKS_SYSTEM_ID)
}

/// Splits a text after a quoted identifier. Returns `None` if it does not begin with one.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    text.strip_prefix(quote)?.split_once(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_document_types_select_quirks_mode() {
        for declaration in [
            "doctype",
            "doctype htm",
            "doctype html public",
            "doctype html nonsense",
            "DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML//EN\"",
            "doctype html public '-//W3C//DTD HTML 3.2 Final//EN'",
            "doctype html public '-//W3C//DTD HTML 4.01 Transitional//EN'",
            "doctype html system 'http://www.ibm.com/data/dtd/v11/ibmxhtml1-transitional.dtd'",
        ] {
            assert!(selects_quirks_mode(declaration), "{declaration}");
        }
    }

    #[test]
    fn current_document_types_do_not_select_quirks_mode() {
        for declaration in [
            "doctype html",
            "DOCTYPE\nHTML ",
            "doctype html system 'about:legacy-compat'",
            "doctype html public '-//W3C//DTD XHTML 1.0 Strict//EN' 'x'",
            "doctype html public '-//W3C//DTD HTML 4.01 Transitional//EN' 'x'",
            "doctype html public \"-//W3C//DTD HTML 4.01//EN\"",
        ] {
            assert!(!selects_quirks_mode(declaration), "{declaration}");
        }
    }
}
