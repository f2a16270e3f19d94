"""Signs between thousands: 1.234 is a thousand in one file and little more than one in another.

How this works: some texts can only be grouped (1.234.567, 1,234.5, 1 234); they are no numbers
until the sign is declared. A text with one sign and three digits behind it says nothing by itself,
but its column may: numbers with decimals do not all have three of them beside whole numbers below a
thousand. Such a column would be read wrong by a factor of a thousand in some rows and right in the
others, so the file has to say what it means (`Form.thousands`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

GROUPS = {  # the groups, and what may follow behind the decimal sign
    ".": re.compile(r"([+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+)(,[0-9]*)?"),
    ",": re.compile(r"([+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+)(\.[0-9]*)?"),
    " ": re.compile(r"([+-]?[1-9][0-9]{0,2}(?:[ \u00a0\u2009\u202f][0-9]{3})+)([.,][0-9]*)?"),
    "'": re.compile(r"([+-]?[1-9][0-9]{0,2}(?:['\u2019][0-9]{3})+)([.,][0-9]*)?"),
}
_BARE = re.compile(r"[+-]?([0-9]+)(?:[.,]0*)?")
THOUSAND = 1000


def without(text: str, sign: str, decimal: str) -> str:
    """A number without the declared signs between its thousands; any other text as it is."""
    groups = GROUPS.get(sign)
    found = groups.fullmatch(text) if groups is not None else None
    if found is None or (found[2] and found[2][0] != decimal):
        return text
    return re.sub("[^0-9+-]", "", found[1]) + (found[2] or "")


def surely(text: str) -> str:
    """The sign of a text that can only be a number with thousands set apart; "" for any other."""
    for sign, groups in GROUPS.items():
        found = groups.fullmatch(text)
        if found and (sign not in ".," or found[2] or found[1].count(sign) > 1):
            return sign
    return ""


def perhaps(text: str, sign: str) -> bool:
    """Whether a number has one sign and three digits behind it: a decimal number, or a thousand. sign : "." or ","."""
    found = GROUPS[sign].fullmatch(text)
    return found is not None and not found[2] and found[1].count(sign) == 1


def among(texts: Sequence[str], sign: str, high: float, step: float | None) -> list[str]:
    """The texts of a column that may well be thousands, though they are read as decimal numbers.

    texts : distinct cells. sign : the decimal sign. high : the largest value allowed. step : the smallest unit, or None.
    """
    marked = [text for text in texts if sign in text]
    if high < THOUSAND or not marked or not all(perhaps(text, sign) for text in marked):
        return []
    bare = [found for text in texts if sign not in text and (found := _BARE.fullmatch(text))]
    beside = bool(bare) and all(int(found[1]) < THOUSAND for found in bare)
    return marked if beside or (step is not None and step >= 1) else []
