"""Small texts of the command line as plain data: conditions (`age>=18`) and options (`q=0.1,0.5`). Read, never evaluated."""

from __future__ import annotations

import re
from typing import Any

from ..data.reading import json_of
from ..errors import QuestionError

COMPARISON = re.compile(r"\s*(?P<name>[^<>=!]+?)\s*(?P<op>==|!=|<=|>=|=|<|>)\s*(?P<value>'[^']*'|\"[^\"]*\"|[^<>=!]+?)\s*")
MEMBERSHIP = re.compile(r"\s*(?P<name>\S.*?)\s+in\s+(?P<value>\S.*?)\s*")
MISSING = re.compile(r"\s*(?P<name>\S.*?)\s+(?P<op>missing|known)\s*")
MOST_DIGITS = 19            # of a whole number, its sign among them: 64 bits hold it
FORMS = "age>=18, sex==F, 'course in RRMS,SPMS', 'edss missing', 'edss known'"


def condition(text: str) -> tuple[str, str, Any]:
    """A condition as (variable, op, value). Raises QuestionError that shows the forms.

    Values are numbers where they read as numbers, texts otherwise; quotes keep a number a text ('level=="1"').
    """
    if found := COMPARISON.fullmatch(text):
        op = "==" if found["op"] == "=" else found["op"]
        return found["name"], op, value(found["value"])
    if found := MISSING.fullmatch(text):
        return found["name"], "missing", found["op"] == "missing"
    if found := MEMBERSHIP.fullmatch(text):
        return found["name"], "in", [value(one) for one in found["value"].split(",")]
    raise QuestionError(f'"{text}" is not a condition', hint=f"conditions are: {FORMS}")


def conditions(texts: Any) -> Any:
    """Several conditions, all of which hold; what is data already (from a file), one of them or a whole tree, stays as it is."""
    if not isinstance(texts, (list, tuple)):
        return texts
    return [condition(one) if isinstance(one, str) else one for one in texts]


def value(text: str) -> Any:
    """A number if it reads as one and would be written like that, otherwise the text without its quotes."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if re.fullmatch(r"[+-]?(0|[1-9]\d*)", text):
        if len(text) > MOST_DIGITS:
            raise QuestionError(f"a number has at most {MOST_DIGITS - 1} digits, not {len(text)}")
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?", text) and not re.fullmatch(r"[+-]?0\d+", text):
        return float(text)
    return text


def option(text: str) -> tuple[str, Any]:
    """An option of an analysis as (name, value): `q=0.1,0.5,0.9`, `missing=true`, `tau=1825`. Raises QuestionError."""
    name, sign, content = text.partition("=")
    if not sign or not name.strip():
        raise QuestionError(f'"{text}" is not an option', hint="options are name=value, such as confidence=0.9 or q=0.1,0.5,0.9")
    try:
        return name.strip(), json_of(content)
    except ValueError:
        parts = [value(one) for one in content.split(",")]
        return name.strip(), parts if len(parts) > 1 else parts[0]


def words(where: Any) -> str:
    """A canonical filter as people say it."""
    if isinstance(where, dict):
        if "not" in where:
            return f"not ({words(where['not'])})"
        (how, parts), = where.items()
        return (" and " if how == "all" else " or ").join(
            f"({words(part)})" if isinstance(part, dict) and len(parts) > 1 else words(part) for part in parts) or "all patients"
    if not where:
        return "all patients"
    name, op, wanted = where
    if op == "missing":
        return f"{name} {'missing' if wanted else 'known'}"
    return f"{name} {op} {', '.join(map(str, wanted)) if isinstance(wanted, list) else wanted}"
