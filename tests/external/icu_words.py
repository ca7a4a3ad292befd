#!/usr/bin/python3
"""Cuts texts into words with ICU, an independent program, for tests/external/texts.rs.

Takes files: plain texts, or catalogues of translations (.mo), of which the translations are taken, one a line. Prints one line of JSON for
each: the text, and how often every word occurs. What a word is, is done as docs/counting.md says it, with nothing but ICU: its word
boundaries, its properties of characters, its normalisation and its lower case.
"""

import collections
import gettext
import json
import sys

import icu

# More of a text is not taken; it ends with a line.
CHARACTERS_MAX = 150_000
ROOT = icu.Locale.getRoot()
COMPOSED = icu.Normalizer2.getNFCInstance()
CATEGORY = icu.UCharCategory
WORD_CATEGORIES = {
    CATEGORY.UPPERCASE_LETTER,
    CATEGORY.LOWERCASE_LETTER,
    CATEGORY.TITLECASE_LETTER,
    CATEGORY.MODIFIER_LETTER,
    CATEGORY.OTHER_LETTER,
    CATEGORY.DECIMAL_DIGIT_NUMBER,
    CATEGORY.LETTER_NUMBER,
}
JOINERS = "\u200c\u200d"
# Where a dictionary cuts, joiners are no spelling.
WITHOUT_SPACES = icu.UnicodeSet("[[:Han:][:Hiragana:][:Katakana:][:Khmer:][:Lao:][:Myanmar:][:Thai:]]")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u02bc\uff07", "'"))


def text_of(path):
    """Returns the text of a file."""
    with open(path, "rb") as file:
        if path.endswith(".mo"):
            translations = gettext.GNUTranslations(file)._catalog
            text = "".join(f"{text}\n" for original, text in translations.items() if original and text != original)
        else:
            text = file.read().decode("utf-8")
    if len(text) > CHARACTERS_MAX:
        text = text[: text.rindex("\n", 0, CHARACTERS_MAX) + 1]
    return text


def key_of(word):
    """Returns the form that a word is listed under."""
    kept = "" if any(c in WITHOUT_SPACES for c in word) else JOINERS
    visible = [
        c
        for c in COMPOSED.normalize(word)
        if c in kept or not icu.Char.hasBinaryProperty(c, icu.UProperty.DEFAULT_IGNORABLE_CODE_POINT)
    ]
    lower = str(icu.UnicodeString("".join(visible).strip(JOINERS)).toLower(ROOT))
    return COMPOSED.normalize(lower).translate(APOSTROPHES)


def words_of(text):
    """Returns how often every word occurs in a text."""
    units = icu.UnicodeString(text)
    boundaries = icu.BreakIterator.createWordInstance(ROOT)
    boundaries.setText(units)
    pieces = collections.Counter()
    start = 0
    for end in boundaries:
        pieces[str(units[start:end])] += 1
        start = end
    words = collections.Counter()
    for piece, count in pieces.items():
        if any(icu.Char.charType(c) in WORD_CATEGORIES for c in piece):
            words[key_of(piece)] += count
    return words


def main():
    """Counts the files that the arguments name."""
    print(f"ICU {icu.ICU_VERSION}, Unicode {icu.UNICODE_VERSION}", file=sys.stderr)
    for path in sys.argv[1:]:
        text = text_of(path)
        print(json.dumps({"text": text, "words": words_of(text)}))


main()
