"""What the questions of one query may show beside each other, from what they declare and from the totals of round 0.

How this works. The engine knows no analysis: it reads declarations (`release`) and counts. In round 0 it
asks for the size of every population, for how many patients each two of them differ by, for how weights
differ, and for the groups that declarations tell apart (`overlaps`). Then it says of each question, in the
order in which they were asked, whether it may be answered beside those before it:

1. two populations must not differ by a few patients, who would follow by subtraction (`_apart`), nor
   several of them leave a few over between them (`_corners`);
2. the groups told apart must not differ by a few (`differences`), and two tables must not give back what
   each of them hides (`linked`);
3. two weightings of the patients must not differ in a few of them (`_weighed`).

Whole numbers decide, but for weights; every registry holds the same totals and comes to the same end.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ..data.dictionary import Dictionary
from ..data.rows import Rows
from ..errors import Refused
from ..formula.weights import Weighting
from ..sums.statistic import INDICATORS, Ask, Block, Sums, statistic
from .differences import trouble
from .linked import grown_again, linked
from .overlaps import Compared, compared
from .release import Declared, Population, population_of
from .rules import Rules, gate, safe

POWERS = ((2, 0), (1, 1), (0, 2), (4, 0), (3, 1), (2, 2), (1, 3), (0, 4))    # of two weights, summed
SAME_WEIGHTS = 1e-10        # of the squares of weights: what differs less moves no digit that is released
FEWEST_DIFFERING = 2        # times the smallest cell: patients in whom two weightings must differ, in effect

Questions = Sequence[Sequence[Declared]]


# -- round 0 ------------------------------------------------------------------------------------------


def _layout(dictionary: Dictionary, *, populations: Sequence[dict]) -> dict[str, Block]:
    read = msgspec.convert(populations, list[Population])
    return {"cohort": Block(counts=True), "complete": Block((len(read),), counts=True),
            "present": Block((sum(len(one.known) for one in read),), counts=True),
            "apart": Block((len(read), len(read)), counts=True),
            "weights": Block((len(_weighed_pairs(read)), len(POWERS)))}


@statistic("size/2", layout=_layout)
def size(rows: Rows, populations: Sequence[dict]) -> dict:
    """Patients of the cohort; per population those of whom its columns are known; per column those who
    have it; per pair of populations those who are in one of them only, and, where their weights differ,
    sums of products of powers of the two weights. With several rows per patient: who has such a row."""
    read = msgspec.convert(populations, list[Population])
    known = [Population(one.known).inside(rows) for one in read]
    inside = [one.inside(rows) for one in read]
    weights = {k: _weights(read[k], inside[k], rows) for k in {k for pair in _weighed_pairs(read) for k in pair}}
    powers = [[float((weights[j] ** a * weights[k] ** b).sum()) for a, b in POWERS] for j, k in _weighed_pairs(read)]
    return {"cohort": rows.people(), "complete": [rows.people(one) for one in known],
            "apart": [[rows.people(a ^ b) for b in inside] for a in inside],
            "present": [rows.people(rows.present(name)) for one in read for name in one.known],
            "weights": np.array(powers).reshape(-1, len(POWERS))}


@statistic("levels/1", layout=lambda dictionary, *, columns: {
    name: Block((len(dictionary[name].labels or ()),), integer=True) for name in columns}, alone=True)
def levels(rows: Rows, columns: Sequence[str]) -> dict:
    """Per level of each category, 1 if somebody in the whole data-cut of this registry has it, in the cohort or not. Where that is
    not recorded, whoever has patients in the cohort may have all."""
    unknown = {name: np.full(len(rows.dictionary[name].labels or ()), rows.n > 0) for name in columns}
    return {name: rows.occupied.get(name, unknown[name]).astype(np.int64) for name in columns}


def _weighed_pairs(populations: Sequence[Population]) -> list[tuple[int, int]]:
    """The pairs of populations that weigh their patients in different ways."""
    return [(j, k) for j, k in itertools.combinations(range(len(populations)), 2)
            if populations[j].weights != populations[k].weights]


def _weights(of: Population, inside: np.ndarray, rows: Rows) -> np.ndarray:
    """What each patient counts for, as a share of the largest weight there may be, shape (patients,);
    0 outside of the population."""
    found = np.zeros(rows.n)
    weighting = Weighting.of(msgspec.json.decode(of.weights), rows.dictionary) if of.weights else None
    found[inside] = 1.0 if weighting is None else weighting.values(rows.where(inside)) / weighting.high
    if rows.person is None:
        return found
    return np.bincount(rows.person, found) / rows.dictionary.most_rows


# -- what may be answered -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """What the questions are called in a refusal, which stands beside the whole of each."""

    kinds: tuple[str, ...]

    def called(self, k: int) -> str:
        if len(self.kinds) > 1:
            return f"question {k + 1} ({self.kinds[k]})"
        return f"this question ({self.kinds[k]})"


@dataclass(frozen=True)
class _Totals:
    """What round 0 has counted: sizes, and per comparison its totals."""

    sizes: Sums
    compared: list[tuple[Compared, Sums]]


@dataclass(frozen=True)
class Engine:
    """The questions of one query, as they are declared.

    names : what they are called in refusals. conditional : per question with a column that only some
    people can have, its population without that condition.
    """

    questions: Questions
    dictionary: Dictionary
    rules: Rules
    names: Names
    conditional: dict[int, Population]

    @property
    def populations(self) -> list[Population]:
        """Of each question, then those without a condition that only some people can meet."""
        return [*map(population_of, self.questions), *self.conditional.values()]

    @property
    def compared(self) -> list[Compared]:
        return compared(self.questions, self.dictionary)

    @property
    def categories(self) -> list[str]:
        """Categories by which the questions tell patients apart."""
        named = {axis.column for some in self.questions for one in some for axis in one.axes}
        return sorted(name for name in named if self.dictionary[name].type == "category")

    def vacant(self, totals: Sums) -> dict[str, np.ndarray]:
        """Per category, which levels nobody has in the whole data-cut of any registry. totals : of `levels`."""
        return {name: totals[name] == 0 for name in self.categories}

    def asks(self) -> list[Ask]:
        """What round 0 asks for: sizes first, then levels, then the groups that are compared."""
        sizes = size(populations=msgspec.to_builtins(self.populations))
        return [sizes, levels(columns=self.categories), *(one.ask for one in self.compared)]

    def verdicts(self, first: Sums, overlapping: Sequence[Sums]) -> list[Refused | None]:
        """Per question, in order, why it may not be answered beside those before it that are; None: it may.

        first : totals of sizes. overlapping : totals of the other asks.
        """
        totals = _Totals(first, list(zip(self.compared, overlapping)))
        found: list[Refused | None] = []
        for k in range(len(self.questions)):
            try:
                gate(int(first["complete"][k]), int(first["complete" + INDICATORS][k]), self.rules, what=self.names.called(k))
                if self.rules.min_cell > 1:
                    self._check(k, [j for j, one in enumerate(found) if one is None], totals)
            except Refused as refusal:
                found.append(refusal)
            else:
                found.append(None)
        return found

    def _check(self, k: int, before: Sequence[int], totals: _Totals) -> None:
        """Whether question k may be answered beside the earlier ones `before`. Raises Refused."""
        self._apart(k, before, totals.sizes["apart"])
        self._corners(k, before, totals.sizes["complete"])
        self._conditional(k, totals.sizes["apart"])
        self._weighed(k, before, totals.sizes["weights"])
        self._together(k, before, totals.compared)

    def _apart(self, k: int, before: Sequence[int], apart: np.ndarray) -> None:
        """Two populations must not differ by a few: sums over them, or their sizes alone, would give
        those few by subtraction."""
        here = population_of(self.questions[k])
        for j in before:
            if not safe(int(apart[j, k]), self.rules):
                there = population_of(self.questions[j])
                raise Refused(f"{self.names.called(k)} and {self.names.called(j)} are about patients who differ by fewer "
                              f"than {self.rules.min_cell} (rule min_cell): those would follow by subtraction",
                              hint="ask both about the same columns" + same_patients((there.known, here.known)))

    def _corners(self, k: int, before: Sequence[int], complete: np.ndarray) -> None:
        """Those who lack something in each of two or three sets of columns must not be a few, if sums over them follow from those over
        the sets, what the sets share and what they are together: f(a) - f(ab) - f(ac) + f(abc). (Two sets at a time: `_apart`.)"""
        sets = [population_of(self.questions[j]).known for j in (*before, k)]
        known = {frozenset(columns): int(complete[j]) for columns, j in zip(sets, (*before, k))}
        mine = frozenset(sets[-1])
        for corner, base in _corners(known):
            signed = [(base.union(*some), (-1) ** m) for m in range(len(corner) + 1) for some in itertools.combinations(corner, m)]
            rest = abs(sum(sign * known[one] for one, sign in signed))
            if any(one == mine for one, _ in signed) and not safe(rest, self.rules):
                raise Refused(f"together with the questions before it, {self.names.called(k)} would give the sums over fewer than "
                              f"{self.rules.min_cell} patients who lack several columns (rule min_cell)",
                              hint="ask all about the same columns" + same_patients(sets))

    def _conditional(self, k: int, apart: np.ndarray) -> None:
        """A column that only some people can have selects them: those left out by that must not be a few."""
        if k not in self.conditional:
            return
        plain = len(self.questions) + list(self.conditional).index(k)
        if not safe(int(apart[k, plain]), self.rules):
            raise Refused(f"{self.names.called(k)} is about those of whom something is known to have happened, and fewer than "
                          f"{self.rules.min_cell} patients are left out by that (rule min_cell)",
                          hint="widen the cohort, or leave that column out")

    def _weighed(self, k: int, before: Sequence[int], moments: np.ndarray) -> None:
        """Two weightings of the patients must differ in many of them: two weighted means that differ in
        one weight differ by that patient's outcome."""
        pairs = _weighed_pairs(self.populations)
        fewest = FEWEST_DIFFERING * self.rules.min_cell
        for (j, other), sums in zip(pairs, moments.tolist()):
            if other == k and j in before and differing(sums) < fewest:
                raise Refused(f"{self.names.called(k)} and {self.names.called(j)} weigh their patients alike but for a few "
                              "(rule min_cell): these would follow by subtraction",
                              hint="use one set of weights in a query, with one truncation")

    def _together(self, k: int, before: Sequence[int], many: Sequence[tuple[Compared, Sums]]) -> None:
        """What a question shows must not, with the questions before it, leave a few patients over (`differences`), nor give back what a
        table or a tree hides (`linked`)."""
        called, k_cell = self.names.called(k), self.rules.min_cell
        there = [one if j in before or j == k else () for j, one in enumerate(self.questions)]
        many = [(one.among(there), sums) for one, sums in many]
        if (groups := trouble(k, many, self.dictionary, self.rules)) is not None:
            raise Refused(f"{called}: {groups} have groups of patients that differ by fewer than {k_cell}, and those "
                          "would follow by subtraction (rule min_cell)",
                          hint="leave one of them out" + same_patients([population_of(one).known for one in self.questions]))
        if (names := linked(k, there, many, self.dictionary, self.rules)) is not None:
            raise Refused(f"{called}: a question before it shows {names} too, and two tables of them could give back what each "
                          f"hides: cells of fewer than {k_cell} patients (rule min_cell)",
                          hint="ask for the larger table only, which holds the smaller one, or join small levels")
        if (names := grown_again(k, there)) is not None:
            raise Refused(f"{called}: a question before it grows trees on {names} too, and leaves of two models may differ by "
                          f"fewer than {k_cell} patients (rule min_cell)",
                          hint="ask for one model; compare settings by validation, which releases no trees")


def _corners(known: dict[frozenset[str], int]) -> list[tuple[tuple[frozenset[str], ...], frozenset[str]]]:
    """Two or three sets of columns that hold another one, with all their unions asked too; and that one."""
    found = []
    for base in known:
        larger = [one for one in known if one > base]
        pairs = [pair for pair in itertools.combinations(larger, 2) if pair[0] | pair[1] in known]
        triples = [(*pair, one) for pair in pairs for one in larger
                   if one not in pair and all(one | other in known for other in (*pair, pair[0] | pair[1]))]
        found += [(corner, base) for corner in (*pairs, *triples)]
    return found


def differing(sums: Sequence[float]) -> float:
    """In how many patients, in effect, two weightings differ: (sum r^2)^2 / sum r^4, r what is left of
    the second when its best multiple of the first is taken away. Infinite where they are the same.

    One patient's share of the squared difference is at most one over the root of it. sums : of `POWERS`.
    """
    aa, ab, bb, aaaa, aaab, aabb, abbb, bbbb = sums
    if aa <= 0 or bb <= 0:
        return math.inf
    c = ab / aa
    squares = bb - c * ab
    if squares <= SAME_WEIGHTS * bb:
        return math.inf
    fourth = bbbb - 4 * c * abbb + 6 * c**2 * aabb - 4 * c**3 * aaab + c**4 * aaaa
    return squares**2 / fourth if fourth > 0 else math.inf


def same_patients(sets: Sequence[Sequence[str]]) -> str:
    """How to ask several questions about the same patients: those of whom the columns are known that not all of them are about."""
    every = [set(columns) for columns in sets]
    apart = sorted({name for one in every for name in one if not all(name in other for other in every)})
    return (f", or ask all about patients of whom {', '.join(apart)} are known: where=[(\"{apart[0]}\", \"missing\", False), ...], "
            f"on the command line --where '{apart[0]} known'") if apart else ""
