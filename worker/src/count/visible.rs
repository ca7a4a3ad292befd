//! Which part of a page is text that a reader sees, and where its words are separated.
//!
//! There is no tree: one hidden element at a time is followed by its name and a depth, which
//! takes constant memory and linear time whatever the page looks like.

/// Elements that are no part of the text and not seen either: words go on across them.
const UNSEEN: &[&str] =
    &["datalist", "noembed", "noframes", "noscript", "script", "style", "template", "title"];

/// Elements shown as a box whose content is not text of the page: words end there.
const BOXES: &[&str] = &["audio", "canvas", "iframe", "meter", "progress", "textarea", "video"];

/// Elements within a line, and those that show nothing: words go on across their tags.
const INLINE: &[&str] = &[
    "a", "abbr", "acronym", "b", "base", "bdi", "bdo", "big", "button", "cite", "code", "data",
    "del", "dfn", "em", "font", "i", "ins", "kbd", "label", "link", "mark", "meta", "nobr",
    "object", "param", "q", "ruby", "s", "samp", "select", "small", "source", "span", "strike",
    "strong", "sub", "sup", "svg", "time", "track", "tt", "u", "var", "wbr",
];

/// Elements without content in HTML.
const VOID: &[&str] = &[
    "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input",
    "keygen", "link", "meta", "param", "source", "track", "wbr",
];

/// Elements that end an open paragraph, as start tags; as end tags, they end it with its parent.
const CLOSE_PARAGRAPH: &[&str] = &[
    "address",
    "article",
    "aside",
    "blockquote",
    "center",
    "dd",
    "details",
    "dialog",
    "dir",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "li",
    "listing",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "plaintext",
    "pre",
    "search",
    "section",
    "summary",
    "table",
    "ul",
    "xmp",
];

/// Containers that end an open paragraph only when they end themselves.
const PARAGRAPH_PARENTS: &[&str] = &["body", "caption", "html", "td", "th", "tr"];

/// HTML elements that cannot be in SVG or `MathML`: they end it if it was left open.
const BREAK_OUT: &[&str] = &[
    "b",
    "big",
    "blockquote",
    "body",
    "br",
    "center",
    "code",
    "dd",
    "div",
    "dl",
    "dt",
    "em",
    "embed",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "head",
    "hr",
    "i",
    "img",
    "li",
    "listing",
    "menu",
    "meta",
    "nobr",
    "ol",
    "p",
    "pre",
    "ruby",
    "s",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "table",
    "tt",
    "u",
    "ul",
    "var",
];

/// How names and slashes are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Html,
    Xml,
}

/// What a tag means for the words around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Words go on across the tag.
    Join,
    /// No word spans the tag.
    Break,
}

/// Follows the tags of a page.
pub(super) struct Visibility {
    syntax: Syntax,
    hidden: Option<Hidden>,
    /// Open SVG and `MathML` elements.
    foreign: usize,
}

impl Visibility {
    pub(super) const fn new(syntax: Syntax) -> Self {
        Self { syntax, hidden: None, foreign: 0 }
    }

    /// Returns whether text at this place is seen.
    pub(super) const fn shows_text(&self) -> bool {
        self.hidden.is_none()
    }

    /// Returns whether the rules of XML hold at this place, as they do inside SVG and `MathML`.
    pub(super) const fn is_xml(&self) -> bool {
        matches!(self.syntax, Syntax::Xml) || self.foreign > 0
    }

    /// Takes a start tag; `is_hidden` if it has the attribute `hidden`.
    pub(super) fn start(&mut self, name: &str, is_hidden: bool, is_closed: bool) -> Step {
        if BREAK_OUT.contains(&name) {
            self.foreign = 0;
        }
        let is_foreign_root = matches!(name, "svg" | "math");
        let is_empty = VOID.contains(&name) || (is_closed && (is_foreign_root || self.is_xml()));
        if is_foreign_root && !is_empty {
            self.foreign = self.foreign.saturating_add(1);
        }
        if let Some(hidden) = &mut self.hidden {
            if !hidden.is_ended_by_start(name) {
                if !is_empty {
                    hidden.start(name);
                }
                return Step::Join;
            }
            self.hidden = None;
        }
        if !is_empty && (is_hidden || UNSEEN.contains(&name) || BOXES.contains(&name)) {
            self.hidden = Some(Hidden::new(name));
            if is_hidden {
                return Step::Join;
            }
        }
        step_of(name)
    }

    /// Takes an end tag.
    pub(super) fn end(&mut self, name: &str) -> Step {
        if matches!(name, "svg" | "math") {
            self.foreign = self.foreign.saturating_sub(1);
        }
        match self.hidden.as_mut().map(|hidden| hidden.end(name)) {
            Some(End::Inside) => return Step::Join,
            Some(End::Own) => {
                self.hidden = None;
                // What the reader does not see cannot separate words; a box can be seen.
                return if BOXES.contains(&name) { Step::Break } else { Step::Join };
            }
            Some(End::Parent) => self.hidden = None,
            None => {}
        }
        step_of(name)
    }
}

fn step_of(name: &str) -> Step {
    if INLINE.contains(&name) || UNSEEN.contains(&name) { Step::Join } else { Step::Break }
}

/// What an end tag ends.
enum End {
    /// Something inside the hidden element.
    Inside,
    /// The hidden element itself.
    Own,
    /// What the hidden element is in, and so the element, whose end tag was left out.
    Parent,
}

/// The outermost hidden element.
struct Hidden {
    name: String,
    kind: Kind,
    /// Elements of the same name open inside, or parents for kinds that count those.
    depth: usize,
}

/// How the hidden element may end without an end tag of its own.
#[derive(Clone, Copy)]
enum Kind {
    Ordinary,
    Paragraph,
    /// An item of something: it ends at the next of `siblings` and with any of `parents`.
    Item {
        siblings: &'static [&'static str],
        parents: &'static [&'static str],
        /// Which of `parents` can be nested inside the item.
        nests: &'static [&'static str],
    },
}

impl Kind {
    fn of(name: &str) -> Self {
        const SECTIONS: &[&str] = &["tbody", "tfoot", "thead"];
        const ROWS: &[&str] = &["tbody", "tfoot", "thead", "tr"];
        const CELLS: &[&str] = &["tbody", "td", "tfoot", "th", "thead", "tr"];
        const TABLE: &[&str] = &["table"];
        const ROW_PARENTS: &[&str] = &["table", "tbody", "tfoot", "thead"];
        const CELL_PARENTS: &[&str] = &["table", "tbody", "tfoot", "thead", "tr"];
        const LISTS: &[&str] = &["menu", "ol", "ul"];
        const OPTION_PARENTS: &[&str] = &["datalist", "optgroup", "select"];
        let (siblings, parents, nests): (&[&str], &[&str], &[&str]) = match name {
            "p" => return Self::Paragraph,
            "li" => (&["li"], LISTS, LISTS),
            "dt" | "dd" => (&["dd", "dt"], &["dl"], &["dl"]),
            "option" => (&["optgroup", "option"], OPTION_PARENTS, &["select"]),
            "optgroup" => (&["optgroup"], &["select"], &["select"]),
            "tbody" | "tfoot" | "thead" => (SECTIONS, TABLE, TABLE),
            "tr" => (ROWS, ROW_PARENTS, TABLE),
            "td" | "th" => (CELLS, CELL_PARENTS, TABLE),
            _ => return Self::Ordinary,
        };
        Self::Item { siblings, parents, nests }
    }
}

impl Hidden {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), kind: Kind::of(name), depth: 0 }
    }

    fn is_ended_by_start(&self, name: &str) -> bool {
        match self.kind {
            Kind::Ordinary => false,
            Kind::Paragraph => CLOSE_PARAGRAPH.contains(&name),
            Kind::Item { siblings, .. } => self.depth == 0 && siblings.contains(&name),
        }
    }

    fn start(&mut self, name: &str) {
        let counts = match self.kind {
            Kind::Ordinary => name == self.name,
            Kind::Paragraph => false,
            Kind::Item { nests, .. } => nests.contains(&name),
        };
        if counts {
            self.depth = self.depth.saturating_add(1);
        }
    }

    fn end(&mut self, name: &str) -> End {
        let (ends_own, ends_parent, unnests) = match self.kind {
            Kind::Ordinary => (name == self.name, false, name == self.name),
            Kind::Paragraph => {
                let is_parent =
                    CLOSE_PARAGRAPH.contains(&name) || PARAGRAPH_PARENTS.contains(&name);
                (name == "p", is_parent, false)
            }
            Kind::Item { parents, nests, .. } => {
                (name == self.name, parents.contains(&name), nests.contains(&name))
            }
        };
        if self.depth > 0 {
            if unnests {
                self.depth -= 1;
            }
            End::Inside
        } else if ends_own {
            End::Own
        } else if ends_parent {
            End::Parent
        } else {
            End::Inside
        }
    }
}
