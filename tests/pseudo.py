"""A language made out of English, with which tests find what no translator could have said and where longer words do not fit.

Letters get accents, vowels are written twice or thrice until a text is two fifths longer, and brackets stand around every text.
Places ({name}) stay, outside the brackets, because what is put there is no text of the page.
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
    """Strings of a file of locales/, made longer and strange; keys, plural forms and places stay."""
    if isinstance(node, dict):
        return {key: pseudo(value) for key, value in node.items()}
    if isinstance(node, list):
        return [pseudo(value) for value in node]
    return "".join(part if _PLACE.fullmatch(part) else _text(part) for part in _PLACE.split(node) if part)
