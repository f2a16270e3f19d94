"""Numbers that JSON has no sign for: how infinity and "not a number" are written in results, and
read back.

How this works. A result may hold a number without an end: exp of a coefficient above 709, the log
likelihood of a fit that leaves nothing over. JSON knows no such numbers (encoders write null, or
something that others cannot read), so `worded` writes them as the texts "Infinity", "-Infinity" and
"NaN", as the JSON form of Protocol Buffers and ECMAScript do. `numbered` turns these texts back
where the type wants a number and no text; a level of that name stays a text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from msgspec import inspect

WORDS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}

Read = Callable[[Any], Any]


def worded(content: Any) -> Any:
    """Plain data (dicts, lists, texts, numbers) in which each number that is not finite stands as
    its word."""
    if type(content) is float:
        return content if math.isfinite(content) else _word(content)
    if isinstance(content, dict):
        return {name: worded(one) for name, one in content.items()}
    if isinstance(content, (list, tuple)):
        return [worded(one) for one in content]
    return content


def numbered(content: Any, kind: type) -> Any:
    """The same with numbers in place of the words, wherever `kind`, a msgspec struct, has
    numbers."""
    read = _struct(kind)
    return content if read is None else read(content)


def _word(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _number(content: Any) -> Any:
    return WORDS.get(content, content) if isinstance(content, str) else content


@functools.cache
def _struct(kind: type) -> Read | None:
    return _reader(inspect.type_info(kind))


def _reader(info: Any) -> Read | None:
    """How content of a type is read; None where it holds no numbers that could be words."""
    if isinstance(info, inspect.UnionType):
        return _union([one for one in info.types if not isinstance(one, inspect.NoneType)])
    if isinstance(info, inspect.FloatType):
        return _number
    if isinstance(info, inspect.StructType):
        fields = {
            field.encode_name: read
            for field in info.fields
            if (read := _reader(field.type)) is not None
        }
        return functools.partial(_fields, fields) if fields else None
    if isinstance(info, inspect.DictType):
        one = _reader(info.value_type)
        return None if one is None else functools.partial(_values, one)
    if isinstance(info, (inspect.VarTupleType, inspect.ListType)):
        one = _reader(info.item_type)
        return None if one is None else functools.partial(_items, one)
    if isinstance(info, inspect.TupleType):
        many = [_reader(one) for one in info.item_types]
        return functools.partial(_places, many) if any(many) else None
    return None


def _union(kinds: list[Any]) -> Read | None:
    """Of several types, told apart by what the content is. A text is a word only where numbers are
    meant and no texts; of several structs (terms, which are public and finite) none is read."""
    texts = any(isinstance(one, inspect.StrType) for one in kinds)
    number = (
        _number if any(isinstance(one, inspect.FloatType) for one in kinds) and not texts else None
    )
    objects = [
        _reader(one) for one in kinds if isinstance(one, (inspect.StructType, inspect.DictType))
    ]
    arrays = [
        _reader(one)
        for one in kinds
        if isinstance(one, (inspect.VarTupleType, inspect.ListType, inspect.TupleType))
    ]
    which: dict[type, Read | None] = {
        str: number,
        dict: objects[0] if len(objects) == 1 else None,
        list: arrays[0] if len(arrays) == 1 else None,
    }
    return functools.partial(_by_kind, which) if any(which.values()) else None


def _by_kind(which: dict[type, Read | None], content: Any) -> Any:
    read = which.get(list if isinstance(content, tuple) else type(content))
    return content if read is None else read(content)


def _fields(fields: dict[str, Read], content: Any) -> Any:
    if not isinstance(content, dict):
        return content
    return {name: fields[name](one) if name in fields else one for name, one in content.items()}


def _values(read: Read, content: Any) -> Any:
    return (
        {name: read(one) for name, one in content.items()} if isinstance(content, dict) else content
    )


def _items(read: Read, content: Any) -> Any:
    return [read(one) for one in content] if isinstance(content, (list, tuple)) else content


def _places(many: list[Read | None], content: Any) -> Any:
    if not isinstance(content, (list, tuple)) or len(content) != len(many):
        return content
    return [one if read is None else read(one) for read, one in zip(many, content)]
