"""Reading a JSON file that somebody else may have made: bounded, and one clean error for everything that is wrong with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from ..errors import InputError

MOST_BYTES = 200_000_000        # of a model: the largest that may be asked for is about half of it
MOST_CARD_BYTES = 20_000_000    # of a card: of 200 covariates and 8 subgroups it is less than a tenth


def read_bytes(path: str | Path, most: int, what: str) -> bytes:
    """The content of a file of at most so many bytes. what : for the error. Raises InputError."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file", hint="a folder, a device or a pipe is not read")
        with path.open("rb") as file:
            content = file.read(most + 1)       # not its size: that of a file that grows is not to be trusted
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError("this is no name of a file") from None
    if len(content) > most:
        raise InputError(f"{path} is larger than {most} bytes: it is not {what}")
    return content


def read_text(path: str | Path, most: int, what: str) -> str:
    """The text of a file of at most so many bytes. what : for the error. Raises InputError."""
    content = read_bytes(path, most, what)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not {what}: it is not UTF-8") from None


def read_json(path: str | Path, most: int, what: str) -> Any:
    """The content of a JSON file; numbers are finite. Raises InputError."""
    text = read_text(path, most, what)
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        words = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path} is not {what}: {words}") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value
