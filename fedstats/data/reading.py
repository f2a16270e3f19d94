"""Reading small files that people or strangers wrote, TOML and JSON: plain data of a sane size, or
one sentence that names the file.

What the parsers themselves let through and later code stumbles over is refused here, once: numbers
beyond 64 bits or of thousands of digits, numbers that are not finite, names that stand twice,
characters that are none, nesting without end."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError

LARGEST_FILE = 64 * 1024 * 1024  # bytes
DEEPEST = 64  # levels of nesting
LARGEST_INTEGER = 2**63
LONGEST_SEEN = 60  # characters of a wrong entry that are shown again


def read_toml(path: str | Path, what: str) -> dict[str, Any]:
    """The content of a TOML file. what : the file in words. Raises InputError."""
    return _read(path, what, "TOML", tomllib.loads, LARGEST_FILE)


def read_json(path: str | Path, what: str, *, largest: int = LARGEST_FILE) -> Any:
    """The content of a JSON file; numbers that JSON does not have (NaN) are refused. Raises
    InputError."""
    return _read(path, what, "JSON", _loads, largest)


def read_text(path: str | Path, what: str, *, largest: int = LARGEST_FILE) -> str:
    """The text of a file. Raises InputError."""
    try:
        return read_bytes(path, what, largest=largest).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not UTF-8 text") from None


def read_bytes(path: str | Path, what: str, *, largest: int = LARGEST_FILE) -> bytes:
    """The content of a file of at most so many bytes. Raises InputError."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{what} {path} is no file", hint="a folder, a device or a pipe is not read")
        with path.open("rb") as file:
            content = file.read(largest + 1)  # not its size: that of a file that grows may be wrong
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{what}: this is no name of a file") from None
    if len(content) > largest:
        size = f"{largest // 2**20} MB" if largest >= 2**20 else f"{largest} bytes"
        raise InputError(f"{what} {path} is larger than {size}")
    return content


def json_of(text: str) -> Any:
    """Plain data of a JSON text. Raises InputError or ValueError, never anything else."""
    try:
        return checked(_loads(text))
    except RecursionError:
        raise InputError("brackets are nested too deeply") from None


def checked(content: Any, depth: int = 0) -> Any:
    """The content, if every number, text and level of it is sane. Raises InputError that names
    the entry."""
    if depth > DEEPEST:
        raise InputError("it is nested too deeply")
    if isinstance(content, str):
        _check_text(content)
    elif isinstance(content, float) and not math.isfinite(content):
        raise InputError(f"{content:g} is no number to work with")
    elif isinstance(content, int) and not -LARGEST_INTEGER <= content < LARGEST_INTEGER:
        raise InputError("a number in it has more than 18 digits")
    elif isinstance(content, dict):
        for name, one in content.items():
            checked(name, depth + 1)
            _under(str(name), one, depth + 1)
    elif isinstance(content, (list, tuple)):
        for one in content:
            checked(one, depth + 1)
    return content


def _under(name: str, content: Any, depth: int) -> None:
    try:
        checked(content, depth)
    except InputError as error:
        raise InputError(
            error.what if error.what.startswith('"') else f'"{name[:LONGEST_SEEN]}": {error.what}'
        ) from None


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            "a text in it has characters that are none (half a surrogate pair)"
        ) from None


def _read(path: str | Path, what: str, form: str, parse: Callable[[str], Any], largest: int) -> Any:
    text = read_text(path, what, largest=largest)
    try:
        return checked(parse(text.replace("\r\n", "\n").replace("\r", "\n")))
    except RecursionError:
        raise InputError(f"{what} {path} is nested too deeply") from None
    except InputError as error:
        raise InputError(f"{what} {path}: {error.what}", hint=error.hint) from None
    except ValueError as error:  # what is no TOML or JSON, or has a number of thousands of digits
        raise InputError(f"{what} {path} is not {form}: {_why(error)}") from None


def _why(error: ValueError) -> str:
    text = str(error)
    return (
        "a number in it has thousands of digits"
        if "int_max_str_digits" in text or "digits" in text
        else text[:200]
    )


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f'"{twice[:LONGEST_SEEN]}" stands in it twice')
    return found


def _no_number(text: str) -> Any:
    raise InputError(f"{text} is no number to work with")
