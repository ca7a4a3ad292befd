//! Insertion modes inside of tables.

use super::{Mode, StartTag, Step, Tree};
use crate::{
    element::{Element, Name, Property, TagTreatment},
    open_elements::OpenElement,
    tokenizer::{Attribute, Content},
};

const DONE: Step<Content> = Step::Done(Content::Markup);

impl Tree {
    pub(super) fn start_in_table(&mut self, start: &StartTag<'_>) -> Step<Content> {
        match start.name {
            Name::CAPTION => {
                self.clear_to(|open| open.is(Name::TABLE));
                self.open.formatting.push_marker();
                self.insert(start);
                self.mode = Mode::InCaption;
            }
            Name::COLGROUP => {
                self.clear_to(|open| open.is(Name::TABLE));
                self.insert(start);
                self.mode = Mode::InColumnGroup;
            }
            Name::COL => {
                self.clear_to(|open| open.is(Name::TABLE));
                self.insert_implied(Name::COLGROUP);
                self.mode = Mode::InColumnGroup;
                return Step::Again;
            }
            Name::TBODY | Name::TFOOT | Name::THEAD => {
                self.clear_to(|open| open.is(Name::TABLE));
                self.insert(start);
                self.mode = Mode::InTableBody;
            }
            Name::TD | Name::TH | Name::TR => {
                self.clear_to(|open| open.is(Name::TABLE));
                self.insert_implied(Name::TBODY);
                self.mode = Mode::InTableBody;
                return Step::Again;
            }
            Name::TABLE => {
                if self.end_table() {
                    return Step::Again;
                }
            }
            Name::SCRIPT | Name::STYLE | Name::TEMPLATE => {
                return Step::Done(self.start_metadata(start).unwrap_or(Content::Markup));
            }
            Name::FORM => {
                // A form in a table has no content.
                if self.form.is_none() && !self.open.has_template() {
                    let id = self.insert(start);
                    self.form = Some(id);
                    self.open.pop();
                }
            }
            Name::INPUT if is_hidden_input(start) => {}
            _ => return Step::Done(self.start_outside_table(start)),
        }
        DONE
    }

    /// Processes a tag that a table cannot contain: its element is inserted before the table.
    fn start_outside_table(&mut self, start: &StartTag<'_>) -> Content {
        self.is_fostering = true;
        let content = self.start_in_body(start);
        self.is_fostering = false;
        content
    }

    pub(super) fn end_in_table(&mut self, name: Name, element: Element) {
        match name {
            Name::TABLE => {
                self.end_table();
            }
            Name::TEMPLATE => self.end_template(),
            Name::BODY | Name::HTML => {}
            _ if element.treatment == TagTreatment::TablePart => {}
            _ => {
                self.is_fostering = true;
                self.end_in_body(name, element);
                self.is_fostering = false;
            }
        }
    }

    /// Ends the current table. Returns whether there is one.
    fn end_table(&mut self) -> bool {
        let index = self.open.find_in_table(|open| open.is(Name::TABLE));
        if let Some(index) = index {
            self.open.end_with_tag(index);
            self.reset_mode();
        }
        index.is_some()
    }

    pub(super) fn start_in_table_body(&mut self, start: &StartTag<'_>) -> Step<Content> {
        match start.name {
            Name::TR => {
                self.clear_to(|open| open.is_html_with(Property::TABLE_BODY));
                self.insert(start);
                self.mode = Mode::InRow;
                DONE
            }
            Name::TD | Name::TH => {
                self.clear_to(|open| open.is_html_with(Property::TABLE_BODY));
                self.insert_implied(Name::TR);
                self.mode = Mode::InRow;
                Step::Again
            }
            Name::CAPTION
            | Name::COL
            | Name::COLGROUP
            | Name::TBODY
            | Name::TFOOT
            | Name::THEAD => {
                if self.end_table_body(|open| open.is_html_with(Property::TABLE_BODY)) {
                    Step::Again
                } else {
                    DONE
                }
            }
            _ => self.start_in_table(start),
        }
    }

    pub(super) fn end_in_table_body(&mut self, name: Name, element: Element) -> Step<()> {
        match name {
            Name::TBODY | Name::TFOOT | Name::THEAD => {
                self.end_table_body(|open| open.is(name));
            }
            Name::TABLE => {
                if self.end_table_body(|open| open.is_html_with(Property::TABLE_BODY)) {
                    return Step::Again;
                }
            }
            _ => self.end_in_table(name, element),
        }
        Step::Done(())
    }

    /// Ends the current `tbody`, `tfoot` or `thead`. Returns whether there is one.
    fn end_table_body(&mut self, is_target: impl Fn(&OpenElement) -> bool) -> bool {
        if self.open.find_in_table(is_target).is_none() {
            return false;
        }
        self.clear_to(|open| open.is_html_with(Property::TABLE_BODY));
        self.open.pop();
        self.mode = Mode::InTable;
        true
    }

    pub(super) fn start_in_row(&mut self, start: &StartTag<'_>) -> Step<Content> {
        match start.name {
            Name::TD | Name::TH => {
                self.clear_to(|open| open.is(Name::TR));
                self.insert(start);
                self.mode = Mode::InCell;
                self.open.formatting.push_marker();
                DONE
            }
            Name::CAPTION
            | Name::COL
            | Name::COLGROUP
            | Name::TBODY
            | Name::TFOOT
            | Name::THEAD
            | Name::TR => {
                if self.end_row() {
                    Step::Again
                } else {
                    DONE
                }
            }
            _ => self.start_in_table(start),
        }
    }

    pub(super) fn end_in_row(&mut self, name: Name, element: Element) -> Step<()> {
        match name {
            Name::TR => {
                self.end_row();
            }
            Name::TABLE => {
                if self.end_row() {
                    return Step::Again;
                }
            }
            Name::TBODY | Name::TFOOT | Name::THEAD => {
                let has_body = self.open.find_in_table(|open| open.is(name)).is_some();
                if has_body && self.end_row() {
                    return Step::Again;
                }
            }
            _ => self.end_in_table(name, element),
        }
        Step::Done(())
    }

    /// Ends the current row. Returns whether there is one.
    fn end_row(&mut self) -> bool {
        if self.open.find_in_table(|open| open.is(Name::TR)).is_none() {
            return false;
        }
        self.clear_to(|open| open.is(Name::TR));
        self.open.pop();
        self.mode = Mode::InTableBody;
        true
    }

    pub(super) fn start_in_cell(&mut self, start: &StartTag<'_>) -> Step<Content> {
        if start.element.treatment == TagTreatment::TablePart && start.name != Name::FRAME {
            if self.end_cell() {
                return Step::Again;
            }
            return DONE;
        }
        Step::Done(self.start_in_body(start))
    }

    pub(super) fn end_in_cell(&mut self, name: Name, element: Element) -> Step<()> {
        match name {
            Name::TD | Name::TH => {
                if let Some(index) = self.open.find_in_table(|open| open.is(name)) {
                    self.open.generate_implied_ends(None);
                    self.open.end_with_tag(index);
                    self.open.formatting.clear_to_marker();
                    self.mode = Mode::InRow;
                }
            }
            Name::BODY | Name::CAPTION | Name::COL | Name::COLGROUP | Name::HTML => {}
            Name::TABLE | Name::TBODY | Name::TFOOT | Name::THEAD | Name::TR => {
                let is_open = self.open.find_in_table(|open| open.is(name)).is_some();
                if is_open && self.end_cell() {
                    return Step::Again;
                }
            }
            _ => self.end_in_body(name, element),
        }
        Step::Done(())
    }

    /// Ends the current cell. Returns whether there is one.
    fn end_cell(&mut self) -> bool {
        let index = self.open.find_in_table(|open| open.is_html_with(Property::CELL));
        self.mode = Mode::InRow;
        if let Some(index) = index {
            self.open.generate_implied_ends(None);
            self.open.end_without_tag(index.saturating_add(1));
            self.open.pop();
            self.open.formatting.clear_to_marker();
        }
        index.is_some()
    }

    pub(super) fn start_in_caption(&mut self, start: &StartTag<'_>) -> Step<Content> {
        if start.element.treatment == TagTreatment::TablePart && start.name != Name::FRAME {
            if self.end_caption() {
                return Step::Again;
            }
            return DONE;
        }
        Step::Done(self.start_in_body(start))
    }

    pub(super) fn end_in_caption(&mut self, name: Name, element: Element) -> Step<()> {
        match name {
            Name::CAPTION => {
                self.end_caption();
            }
            Name::TABLE => {
                if self.end_caption() {
                    return Step::Again;
                }
            }
            Name::BODY | Name::HTML => {}
            _ if element.treatment == TagTreatment::TablePart && name != Name::FRAME => {}
            _ => self.end_in_body(name, element),
        }
        Step::Done(())
    }

    /// Ends the current caption. Returns whether there is one.
    fn end_caption(&mut self) -> bool {
        let index = self.open.find_in_table(|open| open.is(Name::CAPTION));
        if let Some(index) = index {
            self.open.generate_implied_ends(None);
            self.open.end_with_tag(index);
            self.open.formatting.clear_to_marker();
            self.mode = Mode::InTable;
        }
        index.is_some()
    }

    pub(super) fn start_in_column_group(&mut self, start: &StartTag<'_>) -> Step<Content> {
        match start.name {
            Name::HTML => self.merge_root(start),
            Name::COL => self.insert_void(start),
            Name::TEMPLATE => self.insert_template(start),
            _ => {
                if self.end_column_group() {
                    return Step::Again;
                }
            }
        }
        DONE
    }

    pub(super) fn end_in_column_group(&mut self, name: Name) -> Step<()> {
        match name {
            Name::COLGROUP => {
                self.end_column_group();
            }
            Name::COL => {}
            Name::TEMPLATE => self.end_template(),
            _ => {
                if self.end_column_group() {
                    return Step::Again;
                }
            }
        }
        Step::Done(())
    }

    /// Ends the current `colgroup`. Returns whether there is one.
    pub(super) fn end_column_group(&mut self) -> bool {
        let is_current = self.open.current_is(Name::COLGROUP);
        if is_current {
            self.open.pop();
            self.mode = Mode::InTable;
        }
        is_current
    }

    /// Ends elements up to a part of the table (*clear the stack back to a table context*).
    fn clear_to(&mut self, is_part: impl Fn(&OpenElement) -> bool) {
        self.open.end_up_to(|open| is_part(open) || open.is(Name::TEMPLATE) || open.is(Name::HTML));
    }
}

/// Returns whether a tag is a hidden field of a form, which can be inside a table.
fn is_hidden_input(start: &StartTag<'_>) -> bool {
    start.tag.value(Attribute::Type).is_some_and(|kind| kind.eq_ignore_ascii_case("hidden"))
}
