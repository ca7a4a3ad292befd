//! Rendering of text: whether it is visible, where words end, and whether it is main content.

use super::{
    counter::DropReason,
    element::{Element, Name, Property},
    main_content::{Landmark, LandmarkState},
    open_elements::Namespace,
    style_attribute::{Display, Style},
    tokenizer::{Attribute, Tag, resolve_in_attribute},
};

/// Rendering of the text in an element, which depends on the element and its ancestors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendering {
    /// Reason why the element is not displayed.
    pub(super) drop_reason: Option<DropReason>,
    /// Whether `visibility` hides the text. An element inside can be visible again.
    is_invisible: bool,
    /// Whether the children are blocks, because the element is a flex or grid container.
    has_block_children: bool,
    pub(super) landmarks: LandmarkState,
}

impl Rendering {
    /// Rendering of text that is in no element, and not displayed.
    pub(super) const NOT_DISPLAYED: Self = Self {
        drop_reason: Some(DropReason::Replaced),
        is_invisible: false,
        has_block_children: false,
        landmarks: LandmarkState::NONE,
    };

    /// Returns the rendering in an element inside.
    pub(super) fn enter(self, own: OwnRendering) -> Self {
        // Scripts inside a hidden element are not hidden text.
        let drop_reason = match (self.drop_reason, own.drop_reason) {
            (None | Some(DropReason::Hidden | DropReason::Replaced), Some(own))
                if own.is_code() =>
            {
                Some(own)
            }
            (inherited, own) => inherited.or(own),
        };
        let landmarks = match own.landmark {
            Some(landmark) if drop_reason.is_none() => self.landmarks.enter(landmark),
            _ => self.landmarks,
        };
        Self {
            drop_reason,
            is_invisible: own.is_visible.map_or(self.is_invisible, |is_visible| !is_visible),
            has_block_children: own.has_block_children,
            landmarks,
        }
    }

    /// Returns the reason why text is dropped, or `None` if it is visible.
    #[inline]
    pub(super) const fn text_drop_reason(&self) -> Option<DropReason> {
        match self.drop_reason {
            None if self.is_invisible => Some(DropReason::Hidden),
            reason => reason,
        }
    }

    /// Returns whether words end at an element inside.
    pub(super) const fn ends_words_at(&self, own: OwnRendering) -> bool {
        self.drop_reason.is_none()
            && (own.ends_words || (self.has_block_children && own.is_displayed))
    }
}

/// Contribution of an element to the rendering of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnRendering {
    /// Reason why the text in the element is dropped.
    pub(super) drop_reason: Option<DropReason>,
    is_visible: Option<bool>,
    has_block_children: bool,
    /// Whether the element has a box.
    is_displayed: bool,
    pub(super) ends_words: bool,
    pub(super) landmark: Option<Landmark>,
}

impl OwnRendering {
    /// Rendering of an inline element.
    pub(super) const INLINE: Self = Self {
        drop_reason: None,
        is_visible: None,
        has_block_children: false,
        is_displayed: true,
        ends_words: false,
        landmark: None,
    };

    /// Returns the rendering of the element that a tag starts.
    #[inline]
    pub(super) fn of(tag: &Tag, name: Name, element: Element, namespace: Namespace) -> Self {
        let default = Self::of_element(name, element, namespace);
        if tag.has_attributes() { default.with_attributes(tag, name, element) } else { default }
    }

    /// Returns the rendering of an element without attributes.
    pub(super) fn of_element(name: Name, element: Element, namespace: Namespace) -> Self {
        let (invisible, block) = match namespace {
            Namespace::Html => (Property::INVISIBLE, Property::BLOCK),
            Namespace::Svg => (Property::INVISIBLE_IN_SVG, Property::BLOCK_IN_FOREIGN),
            Namespace::MathMl => (Property::INVISIBLE_IN_MATHML, Property::BLOCK_IN_FOREIGN),
            Namespace::Unknown => return Self::INLINE,
        };
        let is_invisible = element.has(invisible);
        let is_replaced = namespace == Namespace::Html && element.has(Property::REPLACED);
        let mut own = Self::INLINE;
        if is_invisible || is_replaced {
            own.drop_reason = Some(DropReason::of_element(name));
        }
        own.is_displayed = !is_invisible;
        own.ends_words = !is_invisible && (is_replaced || element.has(block));
        if namespace == Namespace::MathMl && element.has(Property::PHANTOM) {
            own.is_visible = Some(false);
        }
        if namespace == Namespace::Html && element.has(Property::LANDMARK) {
            own.landmark = Landmark::of(name, None);
        }
        own
    }

    /// Returns the rendering of an element that is not displayed.
    pub(super) const fn hidden(self) -> Self {
        // A hidden element leaves no gap in the text, so words continue across it.
        Self {
            drop_reason: match self.drop_reason {
                None | Some(DropReason::Replaced) => Some(DropReason::Hidden),
                reason => reason,
            },
            is_displayed: false,
            ends_words: false,
            ..self
        }
    }

    /// Returns whether the element itself hides its text.
    pub(super) const fn is_hidden(&self) -> bool {
        matches!(self.drop_reason, Some(DropReason::Hidden))
            || matches!(self.is_visible, Some(false))
    }

    /// Returns the rendering of the element if it does not hide its text.
    pub(super) const fn shown(self) -> Self {
        Self { drop_reason: None, is_visible: None, ..self }
    }

    fn with_attributes(mut self, tag: &Tag, name: Name, element: Element) -> Self {
        if let Some(role) = tag.value(Attribute::Role) {
            self.landmark = Landmark::of(name, Some(role));
        }
        let is_audio_without_controls =
            name == Name::AUDIO && tag.value(Attribute::Controls).is_none();
        let is_hidden_input = name == Name::INPUT
            && tag.value(Attribute::Type).is_some_and(|kind| kind.eq_ignore_ascii_case("hidden"));
        if is_audio_without_controls || is_hidden_input {
            self.is_displayed = false;
            self.ends_words = false;
        }
        let style = tag
            .value(Attribute::Style)
            .map(|style| Style::parse(&resolve_in_attribute(style)))
            .unwrap_or_default();
        if style.visibility.is_some() {
            self.is_visible = style.visibility;
        }
        let hidden = tag.value(Attribute::Hidden);
        let is_until_found = hidden.is_some_and(|value| value.eq_ignore_ascii_case("until-found"));
        match style.display {
            Some(Display::None) => return self.hidden(),
            None if hidden.is_some() && !is_until_found => return self.hidden(),
            Some(Display::Block) => self.ends_words |= self.is_displayed,
            Some(Display::Flex) => {
                self.ends_words |= self.is_displayed;
                self.has_block_children = true;
            }
            Some(Display::InlineFlex) => self.has_block_children = true,
            Some(Display::Inline) | None => {}
        }
        // `content-visibility` does not apply to inline elements and parts of tables.
        let is_contained = self.ends_words
            && !element.has(Property::TABLE_STRUCTURE)
            && !element.has(Property::CELL);
        if is_contained && style.is_content_hidden.unwrap_or(is_until_found) {
            self.drop_reason = self.drop_reason.or(Some(DropReason::Hidden));
        }
        self
    }
}

impl DropReason {
    /// Returns the reason why the text in an element without visible text is dropped.
    fn of_element(name: Name) -> Self {
        match name {
            Name::SCRIPT => Self::Scripts,
            Name::STYLE => Self::Styles,
            Name::TEMPLATE => Self::Templates,
            _ => Self::Replaced,
        }
    }

    /// Returns whether the text is not meant for readers.
    const fn is_code(self) -> bool {
        matches!(self, Self::Scripts | Self::Styles | Self::Templates)
    }
}
