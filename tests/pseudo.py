"""A pseudo-locale made from English, with which tests find untranslated text and layouts that longer words do not fit.

Letters get accents, vowels are doubled or tripled until a text is two fifths longer, and every text is put in brackets.
Placeholders ({name}) stay as they are, outside the brackets, because their values are no text of the page.
"""

from __future__ import annotations

import math
import re
from typing import Any

LONGER = 1.4
_ACCENTS = str.maketrans("aeiouyAEIOUYcnszCNSZ", "áéíóúýÁÉÍÓÚÝçñšžÇÑŠŽ")
_PLACE = re.compile(r"(\{\w+\})")


def _text(words: str) -> str:
    missing = math.ceil(len(words) * LONGER) - len(words)
    vowels = sum(letter in "aeiouyAEIOUY" for letter in words)
    repeated = []
    for letter in words:
        if letter in "aeiouyAEIOUY":
            more = math.ceil(missing / vowels)
            letter += letter.lower() * more
            missing, vowels = missing - more, vowels - 1
        repeated.append(letter)
    return f"⟦{''.join(repeated).translate(_ACCENTS)}⟧"


def pseudo(node: Any) -> Any:
    """Returns the strings of a file in locales/ as pseudo-locale; keys, plural forms and placeholders stay."""
    if isinstance(node, dict):
        return {key: pseudo(value) for key, value in node.items()}
    if isinstance(node, list):
        return [pseudo(value) for value in node]
    return "".join(part if _PLACE.fullmatch(part) else _text(part) for part in _PLACE.split(node) if part)
