"""Numbers that are not finite, in every result of every analysis: carried as words through JSON,
and read back as numbers."""

import json
import math

import msgspec
import pytest
from msgspec import inspect

from fedstats import analyses  # noqa: F401  (registers the analyses)
from fedstats.analyses.boosting.model import RiskModel
from fedstats.query.analysis import ANALYSES, Failed, Result, read_result
from fedstats.query.nonfinite import WORDS, numbered, worded
from fedstats.wire.analyst import alike

KINDS = sorted({one.result for one in ANALYSES.values()} | {Failed}, key=lambda kind: kind.__name__)
TERM = {"term": "variable", "name": "NaN"}


def example(info, number):
    """Plain content of a type, as full as can be: each number is `number`, each text "NaN"."""
    match info:
        case inspect.FloatType():
            return number
        case inspect.IntType():
            return 1
        case inspect.BoolType():
            return True
        case inspect.StrType() | inspect.AnyType():
            return "NaN"
        case inspect.LiteralType():
            return info.values[0]
        case inspect.DictType():
            return {"Infinity": example(info.value_type, number)}
        case inspect.VarTupleType() | inspect.ListType():
            return [example(info.item_type, number)]
        case inspect.TupleType():
            return [example(one, number) for one in info.item_types]
        case inspect.StructType():
            return {field.encode_name: example(field.type, number) for field in info.fields}
        case inspect.UnionType():
            kinds = [one for one in info.types if not isinstance(one, inspect.NoneType)]
            structs = [one for one in kinds if isinstance(one, inspect.StructType)]
            if len(structs) > 1:        # terms
                return TERM
            texts = [one for one in kinds if isinstance(one, inspect.StrType)]
            return example(
                (
                    texts
                    or structs
                    or sorted(kinds, key=lambda one: not isinstance(one, inspect.FloatType))
                )[0],
                number,
            )
    raise AssertionError(f"what is an example of {info}?")


def numbers(content):
    """How many numbers with a fraction stand in plain content."""
    if isinstance(content, dict):
        content = list(content.values())
    return (
        sum(map(numbers, content))
        if isinstance(content, (list, tuple))
        else int(isinstance(content, float))
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan], ids=str)
def test_a_number_without_end_survives_json_in_every_field_of_every_result(kind, number):
    """Written as JSON that other programs read, read back as the same number; texts that look like
    one stay texts."""
    content = example(inspect.type_info(kind), number)
    if kind is RiskModel:       # a tree that is not finite is no tree: named, and not carried
        with pytest.raises(msgspec.ValidationError, match="a tree holds a number that is not finite"):
            msgspec.convert(content, kind, strict=True)
        return
    result = msgspec.convert(content, kind, strict=True)
    text = json.dumps(result.to_dict(), allow_nan=False)
    over = msgspec.json.decode(
        msgspec.json.encode(result.to_dict())
    )  # as between registries and analyst
    back = Result.from_dict(json.loads(text))

    assert (
        type(back) is kind and json.dumps(back.to_dict()) == text and alike(over, json.loads(text))
    )
    assert (
        numbers(msgspec.to_builtins(back))
        == numbers(msgspec.to_builtins(result))
        == numbers(content)
    )
    assert kind is Failed or numbers(content)


def test_words_are_read_where_numbers_stand_and_nowhere_else():
    class Some(msgspec.Struct):
        a: float
        b: str
        c: tuple[float | None, ...]
        d: dict[str, float] = {}

    written = worded(
        {"a": -math.inf, "b": "Infinity", "c": [None, math.nan, 1.5], "d": {"NaN": math.inf}}
    )

    assert written == {
        "a": "-Infinity",
        "b": "Infinity",
        "c": [None, "NaN", 1.5],
        "d": {"NaN": "Infinity"},
    }
    read = numbered(written, Some)
    assert (
        read["a"] == -math.inf
        and read["b"] == "Infinity"
        and read["d"] == {"NaN": math.inf}
        and math.isnan(read["c"][1])
    )
    assert set(WORDS) == {"Infinity", "-Infinity", "NaN"}


@pytest.mark.parametrize("word", ["inf", "1.5", "", "null"])
def test_other_texts_in_place_of_a_number_are_refused(word):
    content = ANALYSES["summary/1"].result
    plain = worded(example(inspect.type_info(content), 1.5)) | {"kind": content.kind}
    with pytest.raises(Exception, match="cannot be read"):
        read_result(json.loads(json.dumps(plain).replace("1.5", json.dumps(word))))
