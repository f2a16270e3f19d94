"""The dictionary: the public codebook of a consortium.

It says which variables exist, what values they may take and where they may be cut. Levels, scalings, bins and time grids
come from here and never from one registry's data: so every registry computes the same form, and nobody can slide a
threshold until an answer flips.

Bins are [a, b), the last one closed; time intervals are (a, b]. What one variable is, see `variable`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError, QuestionError
from .native import native
from .reading import read_json, read_toml
from .variable import LARGEST, ON_STEP, Every, Variable, one_form, value_text

RESERVED = "registry"               # may appear as a stratum of a model only, see ARCHITECTURE
MOST_GROUPS = 64                    # levels of one grouping variable
MOST_BINS = 20_000                  # bins of one variable: a day grid over 50 years fits
MOST_ROWS = 1000                    # of one patient: monthly visits over a life
MOST_STEPS = 2**53                  # whole steps of one variable: a double counts no further


@dataclass(frozen=True)
class Bins:
    """How a variable is cut into groups: labels, and for numbers the edges (len(labels) + 1), bins [a, b), the last closed.

    `atoms` is true when every bin holds a single value (levels, or whole steps): then counts lose nothing.
    """

    labels: tuple[str, ...]
    edges: tuple[float, ...] | None
    atoms: bool

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def values(self) -> tuple[float, ...]:
        """The value of each bin of single values: the level's position, or the number itself."""
        assert self.atoms
        return self.edges[:-1] if self.edges is not None else tuple(float(k) for k in range(len(self.labels)))


class Dictionary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """The codebook: a name, the variables, and the column that identifies a patient within one registry.

    most_rows : the most rows that one patient may have. With more than 1 (landmark episodes, (start, stop] rows) only analyses that
        count people, not rows, can be asked; the bound of every sum is that many times as large.
    """

    name: str
    variables: tuple[Variable, ...]
    description: str = ""
    patient_id: str = "patient_id"
    most_rows: int = 1

    @classmethod
    def from_dict(cls, source: Mapping[str, Any]) -> Dictionary:
        """A dictionary from plain data.

        source : {"name", "variables": [{"name", "type", "range", "levels", "unit", "step",
            "cut_points", "description", "missing"}]}; numbers may be numpy's. `type` is number,
            integer, boolean, category or date. `range` is [lowest, highest] and is needed by
            numbers, integers and dates; `levels` by categories. `step` is the smallest unit of a
            number (EDSS 0.5). `cut_points` is a list or {"from", "to", "step"}. `missing` lists
            codes that stand for "not known".

        Raises InputError naming the variable and the field.
        """
        try:
            found = msgspec.convert(native(source), cls, strict=True)
        except msgspec.ValidationError as error:
            raise InputError(f"dictionary: {_where(source, str(error))}", hint="see schemas/dictionary.json") from None
        found = _one_form(found)
        check(found)
        return found

    @classmethod
    def load(cls, path: str | Path) -> Dictionary:
        """Read a dictionary from a JSON or TOML file. Raises InputError naming the file."""
        path = Path(path)
        source = (read_toml if path.suffix == ".toml" else read_json)(path, "dictionary")
        if not isinstance(source, dict):
            raise InputError(f"dictionary {path} must be an object with name and variables")
        try:
            return cls.from_dict(source)
        except InputError as error:
            raise InputError(f"{path}: {error.what}", hint=error.hint) from None

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the content; the roster pins it."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def _by_name(self) -> dict[str, Variable]:
        return {variable.name: variable for variable in self.variables}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and one_form(name) in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __getitem__(self, name: str) -> Variable:
        if name == RESERVED:
            raise QuestionError('"registry" is a reserved word: single registries are never filtered on, tabulated or printed',
                                hint='it is allowed as strata="registry" only')
        try:
            return self._by_name[one_form(name)]
        except (KeyError, TypeError, AttributeError):
            raise QuestionError(f'"{name}" is not a variable of the dictionary "{self.name}"',
                                hint=_suggest(name, self._by_name)) from None

    def numeric(self, name: str) -> Variable:
        """A variable that has a mean; booleans count as 0 and 1."""
        variable = self[name]
        if not variable.is_numeric and variable.type != "boolean":
            raise QuestionError(f'"{name}" is of type {variable.type}: a number, integer or boolean is wanted',
                                hint="use crosstab or table_one for levels")
        return variable

    def bins(self, name: str, *, most: int = MOST_BINS) -> Bins:
        """How a variable is cut: its levels, its registered cut points, or its whole steps.

        Raises QuestionError if the variable has none of them, or more than `most` bins.
        """
        variable = self[name]
        if variable.labels is not None:
            bins = Bins(variable.labels, None, True)
        elif variable.cuts is not None:
            low, high = variable.ends
            edges = (low, *(cut for cut in variable.cuts if low < cut < high), high)
            bins = Bins(_interval_labels(variable, edges), edges, False)
        elif variable.unit_step is not None and variable.steps is not None and variable.steps < most:
            edges = tuple(variable.low + k * variable.unit_step for k in range(variable.steps + 2))
            bins = Bins(tuple(value_text(variable, edge) for edge in edges[:-1]), edges, True)
        elif variable.unit_step is not None:
            raise QuestionError(f'"{name}" has {variable.steps} steps and no cut points: too many groups (at most {most})',
                                hint=f'add "cut_points" to "{name}" in the dictionary')
        else:
            raise QuestionError(f'"{name}" is a number without cut points: it cannot be cut into groups',
                                hint=f'add "cut_points" (a list, or from/to/step) to "{name}" in the dictionary')
        if len(bins) > most:
            raise QuestionError(f'"{name}" has {len(bins)} groups: at most {most} are allowed here',
                                hint=f'give "{name}" fewer cut points in the dictionary')
        return bins

    def grid(self, name: str) -> tuple[float, ...]:
        """The registered time grid of a follow-up time: its cut points from 0 on, or every whole unit. Intervals are (a, b]."""
        variable = self[name]
        if not variable.is_numeric:
            raise QuestionError(f'"{name}" is of type {variable.type}: a follow-up time is a number or an integer')
        if variable.low < 0:
            raise QuestionError(f'"{name}" may be negative: a follow-up time starts at 0',
                                hint=f'set the range of "{name}" to start at 0 in the dictionary')
        if variable.cuts is not None:
            grid = tuple(cut for cut in variable.cuts if cut > 0)
        elif variable.unit_step is not None:
            first = round(variable.low / variable.unit_step)
            count = round(variable.high / variable.unit_step)
            if count > MOST_BINS:
                raise QuestionError(f'"{name}" has a grid of {count} steps: at most {MOST_BINS}',
                                    hint=f'add "cut_points" to "{name}" in the dictionary')
            grid = tuple(k * variable.unit_step for k in range(max(1, first), count + 1))
        else:
            raise QuestionError(f'"{name}" is a number without cut points: it has no time grid',
                                hint=f'add "cut_points" such as {{"from": 0, "to": 3650, "step": 30}} to "{name}" in the dictionary')
        if not grid:
            raise QuestionError(f'"{name}" has no cut point above 0: it has no time grid')
        return grid


def _one_form(found: Dictionary) -> Dictionary:
    """Names and levels in one form of Unicode: "ü" is written in two, and a name must be found in both."""
    def level(one: Any) -> Any:
        return one_form(one) if isinstance(one, str) else one

    variables = tuple(msgspec.structs.replace(one, name=one_form(one.name), levels=one.levels and tuple(map(level, one.levels)))
                      for one in found.variables)
    return msgspec.structs.replace(found, variables=variables, patient_id=one_form(found.patient_id))


def check(dictionary: Dictionary) -> None:
    """Everything about a dictionary that its types do not say. Raises InputError naming variable and remedy."""
    if not 1 <= dictionary.most_rows <= MOST_ROWS:
        raise InputError(f"dictionary: most_rows is {dictionary.most_rows}", hint=f"a whole number from 1 to {MOST_ROWS}")
    seen: set[str] = set()
    for variable in dictionary.variables:
        def wrong(what: str, hint: str = "", name: str = variable.name) -> InputError:
            return InputError(f'dictionary: variable "{name}": {what}', hint=hint)

        if not variable.name or variable.name != variable.name.strip():
            raise wrong("the name must not be empty or start or end with a space")
        if variable.name in (RESERVED, dictionary.patient_id):
            raise wrong("this name is reserved", "rename the column")
        if variable.name in seen:
            raise wrong("listed twice")
        seen.add(variable.name)
        if variable.type == "category":
            if not variable.levels:
                raise wrong("a category needs levels", 'add "levels": ["...", "..."]')
            if len(set(variable.labels or ())) != len(variable.levels):
                raise wrong("a level is listed twice")
        elif variable.type != "boolean" and variable.range is None and not (variable.type == "integer" and variable.levels):
            raise wrong(f"a variable of type {variable.type} needs a range", 'add "range": [lowest, highest]')
        if variable.type in ("category", "boolean") and (variable.range or variable.cut_points or variable.step):
            raise wrong(f"a {variable.type} has no range, step or cut points")
        if variable.type == "number" and variable.levels:
            raise wrong("a number has no levels", 'use type "integer" or "category", or give a step')
        for level in variable.levels or () if variable.type == "integer" else ():
            if isinstance(level, (bool, str)) or not abs(level) <= MOST_STEPS or level != int(level):
                raise wrong("a level of an integer is not a whole number", 'use type "category" for levels that are words')
        try:
            _check_numbers(variable, wrong)
        except QuestionError as error:
            raise wrong(error.what, error.hint) from None


def _check_numbers(variable: Variable, wrong: Any) -> None:
    low, high = variable.ends
    if variable.type not in ("category", "boolean") and not low < high:
        raise wrong(f"the range must increase: {low:g} is followed by {high:g}")
    if variable.step is not None:
        if not variable.step > 0 or not np.isfinite(variable.step):
            raise wrong("the step must be above 0")
        if variable.type != "number" and variable.step != 1:
            raise wrong(f"a variable of type {variable.type} has step 1", 'use type "number" for other steps')
        whole = (high - low) / variable.step
        if whole > MOST_STEPS:
            raise wrong(f"the range has more than {MOST_STEPS} steps", "give a narrower range or a larger step")
        if abs(whole - round(whole)) > ON_STEP:
            raise wrong(f"the range is not a whole number of steps of {variable.step:g}")
    if isinstance(variable.cut_points, Every):
        if not 0 < variable.cut_points.step <= LARGEST:
            raise wrong("the step of the cut points must be above 0")
        if (variable.number(variable.cut_points.stop) - variable.number(variable.cut_points.start)) / variable.cut_points.step > MOST_BINS:
            raise wrong(f"more than {MOST_BINS} cut points")
    cuts = variable.cuts
    if cuts is not None:
        for here, there in pairwise(cuts):
            if not here < there:
                raise wrong(f"cut points must increase: {here:g} is followed by {there:g}")
        if not cuts:
            raise wrong("the list of cut points is empty")


def _interval_labels(variable: Variable, edges: tuple[float, ...]) -> tuple[str, ...]:
    text = [value_text(variable, edge) for edge in edges]
    last = len(edges) - 2
    return tuple(f"[{a}, {b}{']' if k == last else ')'}" for k, (a, b) in enumerate(pairwise(text)))


def _suggest(name: str, known: Iterable[str]) -> str:
    import difflib

    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return "variables are: " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _where(source: Mapping[str, Any], text: str) -> str:
    """msgspec says `$.variables[3]`; a reader wants the variable's name."""
    import re

    found = re.search(r"\$\.variables\[(\d+)\]", text)
    if found:
        try:
            return f'variable "{source["variables"][int(found.group(1))]["name"]}": {text}'
        except (KeyError, IndexError, TypeError):
            pass
    return text
