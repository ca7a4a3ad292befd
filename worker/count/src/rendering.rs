//! Rendering of text: whether it is visible, where words end, and whether it is main content.

use super::{
    counter::DropReason,
    element::{Element, Name, Namespace, Property},
    main_content::{Landmark, LandmarkState},
    style_attribute::{Display, Style},
    tokenizer::{Attribute, Tag, resolve_in_attribute},
};

/// Rendering of the text in an element, which depends on the element and its ancestors. Stored as
/// bits, because it is derived for every tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rendering(u16);

/// Bits of the drop reason in [`Rendering`] and [`OwnRendering`]: 0 for none, otherwise the reason
/// plus 1.
const DROP_REASON: u16 = 0b111;
/// Text is hidden by `visibility`. An element inside can be visible again.
const INVISIBLE: u16 = 1 << 3;
/// The children are blocks, because the element is a flex or grid container.
const BLOCK_CHILDREN: u16 = 1 << 4;
/// Position of the bits for the landmarks.
const LANDMARKS_SHIFT: u32 = 8;

impl Rendering {
    /// Rendering of text that is in no element, and not displayed.
    pub(super) const NOT_DISPLAYED: Self = Self(DropReason::Replaced.bits());

    /// Returns the rendering in an element inside.
    #[inline]
    pub(super) fn enter(self, own: OwnRendering) -> Self {
        if own.0 & OwnRendering::INHERITED == 0 {
            return Self(self.0 & !BLOCK_CHILDREN);
        }
        self.enter_unusual(own)
    }

    fn enter_unusual(self, own: OwnRendering) -> Self {
        // Scripts inside a hidden element are not hidden text.
        let drop_reason = match (self.drop_reason(), own.drop_reason()) {
            (None | Some(DropReason::Hidden | DropReason::Replaced), Some(own))
                if own.is_code() =>
            {
                Some(own)
            }
            (inherited, own) => inherited.or(own),
        };
        let landmarks = match own.landmark() {
            Some(landmark) if drop_reason.is_none() => self.landmarks().enter(landmark),
            _ => self.landmarks(),
        };
        let is_invisible = match own.0 & (OwnRendering::VISIBLE | INVISIBLE) {
            0 => self.0 & INVISIBLE != 0,
            bits => bits & INVISIBLE != 0,
        };
        Self(
            drop_reason.map_or(0, DropReason::bits)
                | if is_invisible { INVISIBLE } else { 0 }
                | own.0 & BLOCK_CHILDREN
                | landmarks.bits() << LANDMARKS_SHIFT,
        )
    }

    /// Returns the reason why the element is not displayed.
    pub(super) const fn drop_reason(self) -> Option<DropReason> {
        DropReason::of_bits(self.0)
    }

    /// Returns the landmarks that contain the text.
    pub(super) const fn landmarks(self) -> LandmarkState {
        LandmarkState::of_bits(self.0 >> LANDMARKS_SHIFT)
    }

    /// Returns the reason why text is dropped, or `None` if it is visible.
    #[inline]
    pub(super) const fn text_drop_reason(self) -> Option<DropReason> {
        match self.drop_reason() {
            None if self.0 & INVISIBLE != 0 => Some(DropReason::Hidden),
            reason => reason,
        }
    }

    /// Returns whether words end at an element inside.
    #[inline]
    pub(super) const fn ends_words_at(self, own: OwnRendering) -> bool {
        let is_block_child = self.0 & BLOCK_CHILDREN != 0 && own.is_displayed();
        self.0 & DROP_REASON == 0 && (own.ends_words() || is_block_child)
    }
}

/// Contribution of an element to the rendering of its text, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnRendering(u16);

impl OwnRendering {
    /// `visibility` is `visible`.
    const VISIBLE: u16 = 1 << 5;
    /// The element has no box.
    const NOT_DISPLAYED: u16 = 1 << 6;
    const ENDS_WORDS: u16 = 1 << 7;
    /// The landmark: 0 for none, otherwise the landmark plus 1.
    const LANDMARK: u16 = 0b111 << LANDMARKS_SHIFT;
    /// Bits that change the rendering of text inside.
    const INHERITED: u16 =
        DROP_REASON | INVISIBLE | BLOCK_CHILDREN | Self::VISIBLE | Self::LANDMARK;

    /// Rendering of an inline element.
    const INLINE: Self = Self(0);

    /// Returns the reason why the text in the element is dropped.
    pub(super) const fn drop_reason(self) -> Option<DropReason> {
        DropReason::of_bits(self.0)
    }

    /// Returns whether words end at the element.
    pub(super) const fn ends_words(self) -> bool {
        self.0 & Self::ENDS_WORDS != 0
    }

    pub(super) const fn has_landmark(self) -> bool {
        self.0 & Self::LANDMARK != 0
    }

    fn landmark(self) -> Option<Landmark> {
        Landmark::of_bits((self.0 & Self::LANDMARK) >> LANDMARKS_SHIFT)
    }

    const fn is_displayed(self) -> bool {
        self.0 & Self::NOT_DISPLAYED == 0
    }

    const fn with(self, bits: u16) -> Self {
        Self(self.0 | bits)
    }

    const fn without(self, bits: u16) -> Self {
        Self(self.0 & !bits)
    }

    const fn with_drop_reason(self, reason: DropReason) -> Self {
        self.without(DROP_REASON).with(reason.bits())
    }

    fn with_landmark(self, landmark: Option<Landmark>) -> Self {
        let bits = landmark.map_or(0, Landmark::bits);
        self.without(Self::LANDMARK).with(bits << LANDMARKS_SHIFT)
    }

    /// Returns the rendering of the element that a tag starts.
    #[inline]
    pub(super) fn of(tag: &Tag, name: Name, element: Element, namespace: Namespace) -> Self {
        let default = Self::of_element(name, element, namespace);
        if tag.has_attributes() {
            default.with_attributes(tag, name, element, namespace)
        } else {
            default
        }
    }

    /// Returns the rendering of an element without attributes.
    #[inline]
    pub(super) fn of_element(name: Name, element: Element, namespace: Namespace) -> Self {
        if namespace == Namespace::Html && !element.has(Property::RENDERED) {
            return if element.has(Property::BLOCK) {
                Self(Self::ENDS_WORDS)
            } else {
                Self::INLINE
            };
        }
        Self::of_unusual_element(name, element, namespace)
    }

    fn of_unusual_element(name: Name, element: Element, namespace: Namespace) -> Self {
        let (invisible, block) = match namespace {
            Namespace::Html => (Property::INVISIBLE, Property::BLOCK),
            Namespace::Svg => (Property::INVISIBLE_IN_SVG, Property::BLOCK_IN_FOREIGN),
            Namespace::MathMl => (Property::INVISIBLE_IN_MATHML, Property::BLOCK_IN_FOREIGN),
            Namespace::Unknown => return Self::INLINE,
        };
        if element.has(invisible) {
            return Self(Self::NOT_DISPLAYED | DropReason::of_element(name).bits());
        }
        let is_html = namespace == Namespace::Html;
        let mut own = Self(if element.has(block) { Self::ENDS_WORDS } else { 0 });
        if is_html && element.has(Property::REPLACED) {
            own = own.with(Self::ENDS_WORDS | DropReason::Replaced.bits());
        }
        if is_html && name == Name::AUDIO {
            // Without the attribute `controls`, it has no box.
            own = own.with(Self::NOT_DISPLAYED).without(Self::ENDS_WORDS);
        }
        if namespace == Namespace::MathMl && element.has(Property::PHANTOM) {
            own = own.with(INVISIBLE);
        }
        if is_html && element.has(Property::LANDMARK) {
            own = own.with_landmark(Landmark::of(name, None));
        }
        own
    }

    /// Returns the rendering of the same element if it is not displayed.
    pub(super) const fn to_hidden(self) -> Self {
        // A hidden element leaves no gap in the text, so words continue across it.
        let own = self.with(Self::NOT_DISPLAYED).without(Self::ENDS_WORDS);
        match own.drop_reason() {
            None | Some(DropReason::Replaced) => own.with_drop_reason(DropReason::Hidden),
            Some(_) => own,
        }
    }

    /// Returns whether the element itself hides its text.
    pub(super) const fn is_hidden(self) -> bool {
        matches!(self.drop_reason(), Some(DropReason::Hidden)) || self.0 & INVISIBLE != 0
    }

    /// Returns the rendering of the same element without its own hiding.
    pub(super) const fn to_shown(self) -> Self {
        self.without(DROP_REASON | INVISIBLE | Self::VISIBLE | Self::NOT_DISPLAYED)
    }

    fn with_attributes(
        self,
        tag: &Tag,
        name: Name,
        element: Element,
        namespace: Namespace,
    ) -> Self {
        let mut own = self;
        if let Some(role) = tag.value(Attribute::Role) {
            own = own.with_landmark(Landmark::of(name, Some(role)));
        }
        let mut style = tag
            .value(Attribute::Style)
            .map(|style| Style::parse(&resolve_in_attribute(style)))
            .unwrap_or_default();
        let mut hidden = None;
        if namespace == Namespace::Html {
            hidden = tag.value(Attribute::Hidden);
            own = own.with_html_attributes(tag, name);
        } else if namespace == Namespace::Svg {
            let attribute = Style::of_attributes(
                tag.value(Attribute::Display),
                tag.value(Attribute::Visibility),
            );
            style.display = style.display.or(attribute.display);
            style.visibility = style.visibility.or(attribute.visibility);
        }
        own.with_style(style, hidden, element)
    }

    /// Applies the attributes that have a meaning for single elements.
    fn with_html_attributes(self, tag: &Tag, name: Name) -> Self {
        let is = |attribute, value: &str| {
            tag.value(attribute).is_some_and(|actual| actual.eq_ignore_ascii_case(value))
        };
        let mode = Attribute::ShadowRootMode;
        match name {
            Name::AUDIO if tag.value(Attribute::Controls).is_some() => {
                self.with(Self::ENDS_WORDS).without(Self::NOT_DISPLAYED)
            }
            Name::INPUT if is(Attribute::Type, "hidden") => {
                self.with(Self::NOT_DISPLAYED).without(Self::ENDS_WORDS)
            }
            // A declarative shadow root is shown in place of the template.
            Name::TEMPLATE if is(mode, "open") || is(mode, "closed") => Self::INLINE,
            _ => self,
        }
    }

    /// Applies the declarations of a style, and the attribute `hidden`.
    fn with_style(self, style: Style, hidden: Option<&str>, element: Element) -> Self {
        let mut own = self;
        if let Some(is_visible) = style.visibility {
            own = own.without(INVISIBLE).with(if is_visible { Self::VISIBLE } else { INVISIBLE });
        }
        let is_until_found = hidden.is_some_and(|value| value.eq_ignore_ascii_case("until-found"));
        let block = if own.is_displayed() { Self::ENDS_WORDS } else { 0 };
        match style.display {
            Some(Display::None) => return own.to_hidden(),
            None if hidden.is_some() && !is_until_found => return own.to_hidden(),
            Some(Display::Block) => own = own.with(block),
            Some(Display::Flex) => own = own.with(block | BLOCK_CHILDREN),
            Some(Display::InlineFlex) => own = own.with(BLOCK_CHILDREN),
            Some(Display::Inline | Display::Default) | None => {}
        }
        // `content-visibility` does not apply to inline elements and parts of tables.
        let is_contained = own.ends_words()
            && !element.has(Property::TABLE_STRUCTURE)
            && !element.has(Property::CELL);
        let is_content_hidden = style.is_content_hidden.unwrap_or(is_until_found);
        if is_contained && is_content_hidden && own.drop_reason().is_none() {
            own = own.with_drop_reason(DropReason::Hidden);
        }
        own
    }
}

impl DropReason {
    const fn bits(self) -> u16 {
        match self {
            Self::Scripts => 1,
            Self::Styles => 2,
            Self::Templates => 3,
            Self::Hidden => 4,
            Self::Replaced => 5,
        }
    }

    const fn of_bits(bits: u16) -> Option<Self> {
        match bits & DROP_REASON {
            1 => Some(Self::Scripts),
            2 => Some(Self::Styles),
            3 => Some(Self::Templates),
            4 => Some(Self::Hidden),
            5 => Some(Self::Replaced),
            _ => None,
        }
    }

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
