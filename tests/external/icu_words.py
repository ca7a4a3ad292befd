#!/usr/bin/python3
"""Counts the words of texts with ICU, as an independent reference for tests/external/texts.rs.

The arguments are plain-text files or translation catalogs (.mo), whose translations become one line
each. Prints a line of JSON for each file, with the text and the number of occurrences of each word.
Implements the rules of docs/counting.md with ICU alone: word boundaries, character properties,
normalization and lower case. As there, a text is composed, and joiners in scripts with a dictionary
are removed, before it is segmented. ICU would not find words with the marks in another order.
"""

import collections
import gettext
import json
import re
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
JOINER_BETWEEN_WORDS = re.compile(f"(?<=[\u0e01-\u0eff\u1000-\u109f\u1780-\u17d3])[{JOINERS}]+")
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u02bc\uff07", "'"))


def read_text(path):
    """Returns the text of a file, truncated to CHARACTERS_MAX characters."""
    with open(path, "rb") as file:
        if path.endswith(".mo"):
            translations = gettext.GNUTranslations(file)._catalog
            text = "".join(f"{text}\n" for original, text in translations.items() if original and text != original)
        else:
            text = file.read().decode("utf-8")
    if len(text) > CHARACTERS_MAX:
        text = text[: text.rindex("\n", 0, CHARACTERS_MAX) + 1]
    return text


def normalize(word):
    """Returns the normalized form under which a word is counted."""
    kept = "" if any(c in WITHOUT_SPACES for c in word) else JOINERS
    visible = [
        c
        for c in COMPOSED.normalize(word)
        if c in kept or not icu.Char.hasBinaryProperty(c, icu.UProperty.DEFAULT_IGNORABLE_CODE_POINT)
    ]
    lower = str(icu.UnicodeString("".join(visible).strip(JOINERS)).toLower(ROOT))
    return COMPOSED.normalize(lower).translate(APOSTROPHES)


def count_words(text):
    """Returns the number of occurrences of each word in a text."""
    units = icu.UnicodeString(JOINER_BETWEEN_WORDS.sub("", COMPOSED.normalize(text)))
    boundaries = icu.BreakIterator.createWordInstance(ROOT)
    boundaries.setText(units)
    segments = collections.Counter()
    start = 0
    for end in boundaries:
        segments[str(units[start:end])] += 1
        start = end
    words = collections.Counter()
    for segment, count in segments.items():
        if any(icu.Char.charType(c) in WORD_CATEGORIES for c in segment):
            words[normalize(segment)] += count
    return words


def main():
    """Prints the words of each file in the arguments."""
    print(f"ICU {icu.ICU_VERSION}, Unicode {icu.UNICODE_VERSION}", file=sys.stderr)
    for path in sys.argv[1:]:
        text = read_text(path)
        print(json.dumps({"text": text, "words": count_words(text)}))


main()
