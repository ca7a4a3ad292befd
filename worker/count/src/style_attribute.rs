//! The `style` attribute: CSS declarations that hide an element, or make it a block.
//!
//! The library `cssparser` reads comments, strings, escapes and blocks, and skips declarations that
//! are not valid CSS. Which values a property accepts is decided here: a browser ignores a
//! declaration with any other value, for example `display: non`.

use cssparser::{Delimiter, ParseError, Parser, Token, parse_important};

/// Value of `display`, reduced to its effect on visibility and word boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Display {
    None,
    /// A block, or a part of a table.
    Block,
    /// A block whose children are blocks: `flex` and `grid`.
    Flex,
    /// Like [`Self::Flex`], within a line.
    InlineFlex,
    Inline,
    /// The display of the element without attributes.
    Default,
}

/// Declarations of a `style` attribute that determine whether text is visible. `None` stands for a
/// property that is not declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) display: Option<Display>,
    /// Whether `visibility` is `visible`.
    pub(super) visibility: Option<bool>,
    /// Whether `content-visibility` is `hidden`.
    pub(super) is_content_hidden: Option<bool>,
}

impl Style {
    /// Parses a `style` attribute, whose character references must be resolved.
    pub(super) fn parse(style: &str) -> Self {
        // Most attributes set none of the properties. A property can be written with escapes, too.
        let bytes = style.as_bytes();
        let has_part = |part: &str| {
            bytes.windows(part.len()).any(|name| name.eq_ignore_ascii_case(part.as_bytes()))
        };
        if !bytes.contains(&b'\\') && !["display", "visibility", "all"].into_iter().any(has_part) {
            return Self::default();
        }
        let mut parser = Parser::new(style);
        let mut style = Self::default();
        let mut important = [false; CssProperty::COUNT];
        while !parser.is_exhausted() {
            let Some(declaration) = parse_declaration(&mut parser) else { continue };
            let properties = match declaration.property {
                CssProperty::All => &CssProperty::SINGLE[..],
                CssProperty::Display => &[CssProperty::Display],
                CssProperty::Visibility => &[CssProperty::Visibility],
                CssProperty::ContentVisibility => &[CssProperty::ContentVisibility],
            };
            for property in properties {
                // The last declaration wins, unless an earlier one is important and it is not.
                if let Some(is_important) = important.get_mut(*property as usize)
                    && (declaration.is_important || !*is_important)
                {
                    *is_important = declaration.is_important;
                    style.set(*property, &declaration.value);
                }
            }
        }
        style
    }

    /// Returns the style that presentation attributes of SVG stand for.
    pub(super) fn of_attributes(display: Option<&str>, visibility: Option<&str>) -> Self {
        let declare = |name: &str, value: Option<&str>| {
            value.map(|value| format!("{name}:{value};")).unwrap_or_default()
        };
        Self::parse(&(declare("display", display) + &declare("visibility", visibility)))
    }

    fn set(&mut self, property: CssProperty, value: &str) {
        match property {
            CssProperty::Display => self.display = display_of(value),
            CssProperty::Visibility => self.visibility = visibility_of(value),
            CssProperty::ContentVisibility => self.is_content_hidden = Some(value == "hidden"),
            CssProperty::All => {}
        }
    }
}

/// Returns what a valid value of `display` means, or `None` for the default of the element.
fn display_of(value: &str) -> Option<Display> {
    let has = |word: &str| value.split(' ').any(|part| part == word);
    match value {
        "none" => Some(Display::None),
        "revert" => Some(Display::Default),
        "revert-layer" | "revert-rule" => None,
        "flex" | "grid" | "-webkit-box" | "-webkit-flex" => Some(Display::Flex),
        "inline-flex" | "inline-grid" | "-webkit-inline-box" | "-webkit-inline-flex" => {
            Some(Display::InlineFlex)
        }
        "contents" | "flow" | "inline" | "inline-block" | "inline-table" | "math" | "ruby"
        | "ruby-text" | "inherit" | "initial" | "unset" | UNRESOLVED_VALUE => Some(Display::Inline),
        _ if has("flex") || has("grid") => {
            Some(if has("inline") { Display::InlineFlex } else { Display::Flex })
        }
        _ if has("inline") || has("ruby") && !has("block") => Some(Display::Inline),
        _ => Some(Display::Block),
    }
}

/// Returns whether a valid value of `visibility` is `visible`, or `None` for the inherited value.
fn visibility_of(value: &str) -> Option<bool> {
    match value {
        "hidden" | "collapse" => Some(false),
        "visible" | "initial" => Some(true),
        _ => None,
    }
}

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

/// `CssProperty` that determines whether text is visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CssProperty {
    Display,
    Visibility,
    ContentVisibility,
    /// `all`, which resets every property that determines visibility.
    All,
}

impl CssProperty {
    const SINGLE: [Self; Self::COUNT] = [Self::Display, Self::Visibility, Self::ContentVisibility];
    const COUNT: usize = 3;

    fn of(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            3 if is("all") => Some(Self::All),
            7 if is("display") => Some(Self::Display),
            10 if is("visibility") => Some(Self::Visibility),
            18 if is("content-visibility") => Some(Self::ContentVisibility),
            _ => None,
        }
    }
}

/// A valid declaration of one of the properties.
#[derive(Clone, Debug)]
struct Declaration {
    property: CssProperty,
    /// The words of the value in lower case, separated by spaces, or [`UNRESOLVED_VALUE`].
    value: String,
    is_important: bool,
}

/// Placeholder for a value with `var\(\)` or another function that only a browser can evaluate.
const UNRESOLVED_VALUE: &str = "var()";

/// Reads up to the end of the next declaration or rule. Returns the declaration if it is valid, and
/// sets one of the properties.
fn parse_declaration(parser: &mut Parser<'_>) -> Option<Declaration> {
    let property = match parser.next() {
        Ok(Token::Ident(name)) => CssProperty::of(name),
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
fn parse_value(
    property: CssProperty,
    input: &mut Parser<'_>,
) -> Result<Declaration, ParseError<()>> {
    input.expect_colon()?;
    let value = Value::parse(input)?;
    let value = match value {
        Value::Unresolved => UNRESOLVED_VALUE.to_owned(),
        Value::Words(words) if is_valid(&words, property) => words.join(" "),
        Value::Words(_) => return Err(ParseError::custom(())),
    };
    let is_important = input.try_parse(parse_important).is_ok();
    Ok(Declaration { property, value, is_important })
}

/// Value of a declaration, before `!important`.
enum Value {
    /// Words in lower case.
    Words(Vec<String>),
    /// A value that contains one of [`SUBSTITUTIONS`].
    Unresolved,
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
            (true, _) => Ok(Self::Unresolved),
            (false, true) => Err(ParseError::custom(())),
            (false, false) => Ok(Self::Words(words)),
        }
    }
}

/// Returns whether words are a valid value of a property.
fn is_valid(words: &[String], property: CssProperty) -> bool {
    let [word] = words else {
        return property == CssProperty::Display && is_valid_combination(words);
    };
    let word = word.as_str();
    GLOBAL_VALUES.contains(&word)
        || match property {
            CssProperty::Display => word == "none" || SINGLE_VALUES.contains(&word),
            CssProperty::Visibility => matches!(word, "visible" | "hidden" | "collapse"),
            CssProperty::ContentVisibility => matches!(word, "visible" | "auto" | "hidden"),
            CssProperty::All => false,
        }
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
            assert_eq!(Style::parse(style).display, Some(Display::None), "{style}");
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
            assert_ne!(Style::parse(style).display, Some(Display::None), "{style}");
        }
    }
}
