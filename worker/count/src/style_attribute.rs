//! The `style` attribute: CSS declarations that hide an element.
//!
//! The library `cssparser` reads comments, strings, escapes and blocks, and skips declarations that
//! are not valid CSS. Which values a property accepts is decided here: a browser ignores a
//! declaration with any other value, for example `display: non`.

use cssparser::{Delimiter, ParseError, Parser, Token, parse_important};

/// Returns whether a `style` attribute removes its element from the page: `display` is `none`.
/// Character references in `style` must be resolved.
pub(super) fn is_display_none(style: &str) -> bool {
    // Most attributes set neither property. A property can be written with escapes, too.
    let bytes = style.as_bytes();
    let may_set = bytes.contains(&b'\\')
        || bytes.windows(DISPLAY.len()).any(|name| name.eq_ignore_ascii_case(DISPLAY.as_bytes()))
        || bytes.windows(ALL.len()).any(|name| name.eq_ignore_ascii_case(ALL.as_bytes()));
    if !may_set {
        return false;
    }
    let mut parser = Parser::new(style);
    let mut last: Option<Declaration> = None;
    while !parser.is_exhausted() {
        let Some(declaration) = parse_declaration(&mut parser) else { continue };
        // The last declaration wins, unless an earlier one is important and it is not.
        if declaration.is_important || !last.is_some_and(|last| last.is_important) {
            last = Some(declaration);
        }
    }
    last.is_some_and(|last| last.is_none)
}

const DISPLAY: &str = "display";
/// Property that sets all others, except two.
const ALL: &str = "all";

/// Values that every property accepts. None of them hides an element by itself.
const GLOBAL_VALUES: [&str; 6] =
    ["inherit", "initial", "revert", "revert-layer", "revert-rule", "unset"];
/// Values of `display` that consist of one word, except `none`.
const SINGLE_VALUES: [&str; 28] = [
    "-webkit-box",
    "-webkit-flex",
    "-webkit-inline-box",
    "-webkit-inline-flex",
    "block",
    "contents",
    "flex",
    "flow",
    "flow-root",
    "grid",
    "inline",
    "inline-block",
    "inline-flex",
    "inline-grid",
    "inline-table",
    "list-item",
    "math",
    "ruby",
    "ruby-text",
    "table",
    "table-caption",
    "table-cell",
    "table-column",
    "table-column-group",
    "table-footer-group",
    "table-header-group",
    "table-row",
    "table-row-group",
];
/// Words of values of several words: the outer type, the inner type, and `list-item`.
const OUTER_TYPES: [&str; 2] = ["block", "inline"];
const INNER_TYPES: [&str; 7] = ["flex", "flow", "flow-root", "grid", "math", "ruby", "table"];
/// Functions whose result is known only when the page is rendered. A value that contains one is
/// valid.
const SUBSTITUTIONS: [&str; 4] = ["attr", "env", "if", "var"];

/// Property that determines whether an element is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    Display,
    All,
}

/// A valid declaration of one of the properties.
#[derive(Clone, Copy, Debug)]
struct Declaration {
    is_none: bool,
    is_important: bool,
}

/// Reads up to the end of the next declaration or rule. Returns the declaration if it is valid, and
/// sets `display` or `all`.
fn parse_declaration(parser: &mut Parser<'_>) -> Option<Declaration> {
    let property = match parser.next() {
        Ok(Token::Ident(name)) if name.eq_ignore_ascii_case(DISPLAY) => Some(Property::Display),
        Ok(Token::Ident(name)) if name.eq_ignore_ascii_case(ALL) => Some(Property::All),
        Ok(Token::Semicolon) | Err(_) => return None,
        Ok(Token::AtKeyword(_)) => {
            skip_at_rule(parser);
            return None;
        }
        Ok(_) => None,
    };
    // An error skips the rest of the declaration, including blocks with semicolons.
    let parsed: Result<_, ParseError<()>> =
        parser.parse_until_after(Delimiter::Semicolon, |input| match property {
            Some(property) => parse_value(property, input),
            None => Err(ParseError::custom(())),
        });
    parsed.ok()
}

/// Skips an at-rule, after its name: up to a semicolon or to the end of a block in braces.
fn skip_at_rule(parser: &mut Parser<'_>) {
    while let Ok(token) = parser.next() {
        // The block is skipped before the next token.
        if matches!(token, Token::Semicolon | Token::CurlyBracketBlock) {
            return;
        }
    }
}

/// Parses the colon and the value of a declaration.
fn parse_value(property: Property, input: &mut Parser<'_>) -> Result<Declaration, ParseError<()>> {
    input.expect_colon()?;
    let value = Value::parse(input)?;
    let is_valid = match &value {
        Value::Substituted => true,
        Value::Words(words) => is_valid(words, property),
    };
    if !is_valid {
        return Err(ParseError::custom(()));
    }
    let is_none = matches!(&value, Value::Words(words) if words == &["none"]);
    let is_important = input.try_parse(parse_important).is_ok();
    Ok(Declaration { is_none, is_important })
}

/// Value of a declaration, before `!important`.
enum Value {
    /// Words in lower case.
    Words(Vec<String>),
    /// A value that contains one of [`SUBSTITUTIONS`].
    Substituted,
}

impl Value {
    fn parse(input: &mut Parser<'_>) -> Result<Self, ParseError<()>> {
        let mut words = Vec::new();
        let mut is_substituted = false;
        let mut has_other_tokens = false;
        loop {
            let state = input.state();
            match input.next() {
                Ok(Token::Ident(word)) => words.push(word.to_ascii_lowercase()),
                Ok(Token::Function(name)) => {
                    is_substituted |=
                        SUBSTITUTIONS.iter().any(|known| name.eq_ignore_ascii_case(known));
                    has_other_tokens = true;
                }
                Ok(Token::Delim('!')) | Err(_) => {
                    input.reset(&state);
                    break;
                }
                Ok(_) => has_other_tokens = true,
            }
        }
        match (is_substituted, has_other_tokens) {
            (true, _) => Ok(Self::Substituted),
            (false, true) => Err(ParseError::custom(())),
            (false, false) => Ok(Self::Words(words)),
        }
    }
}

/// Returns whether words are a valid value of a property.
fn is_valid(words: &[String], property: Property) -> bool {
    let is_display = property == Property::Display;
    let [word] = words else {
        return is_display && is_valid_combination(words);
    };
    let word = word.as_str();
    GLOBAL_VALUES.contains(&word)
        || (is_display && (word == "none" || SINGLE_VALUES.contains(&word)))
}

/// Returns whether several words are a valid value: an outer type, an inner type and `list-item`,
/// each at most once. An item of a list can only have the inner types `flow` and `flow-root`.
fn is_valid_combination(words: &[String]) -> bool {
    let count = |known: &[&str]| words.iter().filter(|word| known.contains(&word.as_str())).count();
    let outer_types = count(&OUTER_TYPES);
    let inner_types = count(&INNER_TYPES);
    let list_items = count(&["list-item"]);
    let is_complete = outer_types + inner_types + list_items == words.len();
    let is_item_of_flow = list_items == 0 || inner_types == count(&["flow", "flow-root"]);
    let is_each_once = [outer_types, inner_types, list_items].iter().all(|count| *count <= 1);
    words.len() > 1 && is_complete && is_item_of_flow && is_each_once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_none_hides() {
        for style in [
            "display:none",
            "color: red; DISPLAY : None !important ;",
            "display:block;display:none",
            "display:none/*hidden*/",
            "/**/display/**/:/**/none/**/",
            "display:none !important; display:block",
            "display:none; display:non",
            "display:none; display:",
            "display:none; display:block flex flow",
            "display:none; display:none none",
            "display:none; display:'block'",
            "display:none; display:1px",
            "display:none; display:block !ie",
            "display:none; *display:inline",
            "display:none; _display:inline",
            "display:none; display block",
            r"d\69 splay:n\6f ne",
            r"\64 isplay:none",
            "content:'; display:block'; display:none",
            "background:url(a;b:c);display:none",
            "--x:{display:block};display:none",
            "color:red;;;display:none",
            "display:none;color",
            "display:none ! important;display:block",
            "all:initial;display:none",
            "color:rgb(1,2,3;display:block);display:none",
            "@media x{display:block}display:none",
            "@x;display:none",
            "}color:red;display:none",
        ] {
            assert!(is_display_none(style), "{style}");
        }
    }

    #[test]
    fn other_declarations_do_not_hide() {
        for style in [
            "",
            "display",
            "display:block",
            "display:none;display:inline",
            "display:none;display:inline flow-root list-item",
            "display:none;display:var(--x)",
            "display:none;display:a env(b) c",
            "display:none;all:unset",
            "display:none;display:inherit",
            "display:block!important;display:none",
            "display:none!ie",
            "display:none color:red",
            "display:none none",
            "display:'none'",
            "x-display:none",
            "content:none",
            "content:'display:none'",
            "content:'a\\'; display:none'",
            "/* display:none */",
            "/*/display:none",
            "background:url(a;display:none",
            "x:(display:none;display:none)",
            "color:red /*;*/ display:none",
            "display:none/**/none",
            "}display:none",
            "@media x{display:none}",
        ] {
            assert!(!is_display_none(style), "{style}");
        }
    }
}
