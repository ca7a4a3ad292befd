#!/usr/bin/python3
"""Counts the words of texts with ICU, independently of Wordmill, for tests/external/texts.rs.

The arguments are plain-text files, or translation catalogs (.mo), from which it reads one translation per line.
It prints a line of JSON for each file: the text, and the number of occurrences of each word. The definition of a
word follows docs/counting.md, with ICU alone: word boundaries, character properties, normalization and lower case.
"""

import collections
import gettext
import json
import sys

import icu

# Longer texts are truncated at the end of a line.
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
# In scripts that are segmented by a dictionary, joiners are not part of the spelling.
WITHOUT_SPACES = icu.UnicodeSet("[[:Han:][:Hiragana:][:Katakana:][:Khmer:][:Lao:][:Myanmar:][:Thai:]]")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u02bc\uff07", "'"))


def text_of(path):
    """Returns the text of a file, at most CHARACTERS_MAX characters."""
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
    """Returns the form under which a word is counted."""
    kept = "" if any(c in WITHOUT_SPACES for c in word) else JOINERS
    visible = [
        c
        for c in COMPOSED.normalize(word)
        if c in kept or not icu.Char.hasBinaryProperty(c, icu.UProperty.DEFAULT_IGNORABLE_CODE_POINT)
    ]
    lower = str(icu.UnicodeString("".join(visible).strip(JOINERS)).toLower(ROOT))
    return COMPOSED.normalize(lower).translate(APOSTROPHES)


def words_of(text):
    """Returns the number of occurrences of each word in a text."""
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
    """Counts the words of each file in the arguments."""
    print(f"ICU {icu.ICU_VERSION}, Unicode {icu.UNICODE_VERSION}", file=sys.stderr)
    for path in sys.argv[1:]:
        text = text_of(path)
        print(json.dumps({"text": text, "words": words_of(text)}))


main()
