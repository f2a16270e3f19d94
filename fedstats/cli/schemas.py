"""JSON Schemas of the files and messages, generated from their types: `python -m fedstats.cli.schemas schemas/` writes them.

They are documentation for other programs; nothing here reads them. A test checks that the files are fresh. A new kind of
file or message is one line in `SCHEMAS`; analyses and results come from the list of analyses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .. import analyses  # noqa: F401  (registers the analyses)
from ..client.report import ResultsFile
from ..data.dictionary import Dictionary
from ..ms import tables as ms
from ..ms.cohort.tree import Tree
from ..ms.synthetic.truth import TruthFile
from ..ms.tables.dmt import Treatments
from ..query.analysis import ANALYSES, Failed, Question, Result
from ..query.nonfinite import WORDS
from ..risk.card_form import Card
from ..wire.messages import AnyMessage
from ..wire.receipt import Receipt
from ..wire.roster import Consortium

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = "#/$defs/{name}"
NUMBER = "Number"
FINITE = {"ResultsFile", "NamedResult", "Step", "Words"}        # of the file around the results

ENDLESS = ("Coefficient", "Metrics")    # of a card

Schema = dict[str, Any]
WORD_OR_NUMBER: Schema = {"title": NUMBER, "description": "A number; one that is not finite as a text.",
                          "anyOf": [{"type": "number"}, {"enum": list(WORDS)}]}


def of(kind: Any, title: str) -> Callable[[], Schema]:
    """The schema of one type, as it stands."""
    return lambda: _document(title, *msgspec.json.schema_components([kind], ref_template=REFERENCE))


def question() -> Schema:
    """A question: the name of an analysis, and the parameters of that analysis."""
    members = [ANALYSES[name] for name in sorted(ANALYSES)]
    found, parts = msgspec.json.schema_components([member.params for member in members], ref_template=REFERENCE)
    choices = [_asks(member.name, params, parts) for member, params in zip(members, found)]
    return _document(Question.__doc__ or "", ({"anyOf": choices},), parts)


def results() -> Schema:
    """The results file; each result is of one of the kinds of this version."""
    kinds: list[type[Result]] = [Failed, *(kind for _, kind in sorted({m.result.kind: m.result for m in ANALYSES.values()}.items()))]
    (top, *found), parts = msgspec.json.schema_components([ResultsFile, *kinds], ref_template=REFERENCE)
    for kind, reference in zip(kinds, found):
        part = parts[_name(reference)]
        part["properties"] = {"kind": {"const": kind.kind}, **part["properties"]}
        part["required"] = ["kind", *part["required"]]
    parts["NamedResult"]["properties"]["result"] = {"anyOf": found}
    for name, part in parts.items():
        if name not in FINITE and "term" not in part.get("properties", {}):
            parts[name] = _worded(part)
    parts[NUMBER] = WORD_OR_NUMBER
    return _document("Released results", (top,), parts)


def model_card() -> Schema:
    """A card; limits of its coefficients and metrics may have no end."""
    top, parts = msgspec.json.schema_components([Card], ref_template=REFERENCE)
    for name in ENDLESS:
        parts[name] = _worded(parts[name])
    parts[NUMBER] = WORD_OR_NUMBER
    return _document("The card of a risk model", top, parts)


def table(name: str) -> Callable[[], Schema]:
    """The rows of a table of the MS model."""
    return lambda: _document(f"MS registries: the rows of {name}", (ms.schema(name),), {})


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "dictionary.json": of(Dictionary, "The codebook of a consortium"),
    "question.json": question,
    "results.json": results,
    "consortium.json": of(Consortium, "The roster and the rules of a consortium"),
    "model_card.json": model_card,
    "receipt.json": of(Receipt, "What a released result rests on: signed words of all parties, and keys that open the result"),
    "messages.json": of(AnyMessage, "Messages between analyst, coordinator and registries (sent as MessagePack)"),
    **{f"ms_{name}.json": table(name) for name in ms.COLUMNS},
    "ms_dmt.json": of(Treatments, "Disease-modifying treatments: names, codes, efficacy classes, spellings"),
    "ms_cohort.json": of(Tree, "A cohort: index event, eligibility, covariates, outcomes, follow-up"),
    "ms_truth.json": of(TruthFile, "truth.json of synthetic registries: true effects of treatment from counterfactual runs"),
    "ms_load_report.json": of(ms.Report, "What loading MS tables found: counts by file, column and rule"),
}


def text(name: str) -> str:
    """The content of one file of schemas/."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def write(folder: str | Path) -> list[Path]:
    """Write all schemas into a folder. Returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        (folder / name).write_text(text(name), encoding="utf-8")
    return [folder / name for name in SCHEMAS]


def _worded(schema: Any) -> Any:
    """The schema with a word allowed in place of each number that stands where no text may: see
    `nonfinite`."""
    if isinstance(schema, list):
        return [_worded(one) for one in schema]
    if not isinstance(schema, dict) or {"type": "string"} in schema.get("anyOf", []):
        return schema
    if schema.get("type") == "number":
        return {"$ref": REFERENCE.format(name=NUMBER)}
    return {name: _worded(one) for name, one in schema.items()}


def _asks(name: str, params: Schema, parts: dict[str, Schema]) -> Schema:
    needed = ["params"] if parts[_name(params)].get("required") else []
    return {"type": "object", "properties": {"analysis": {"const": name}, "params": params}, "required": ["analysis", *needed],
            "additionalProperties": False}


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _document(title: str, top: tuple[Schema, ...], parts: dict[str, Schema]) -> Schema:
    return {"$schema": DIALECT, "title": title.strip().splitlines()[0], **top[0], "$defs": dict(sorted(parts.items()))}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m fedstats.cli.schemas FOLDER")
    for path in write(sys.argv[1]):
        print(path)
