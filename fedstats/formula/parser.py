"""Formulas on the analyst's side: "Surv(time, event) ~ age + C(dmt, Treatment('none')) + ns(edss, 3) + strata(registry)".

How this works: a small recursive-descent parser reads the text into the closed tree of `terms`; nothing is evaluated, and only
the tree travels. The grammar, loosest first:

    formula  = [response "~"] sum             response = name | Surv(time, event) | Surv(start, stop, event)
    sum      = product { ("+" | "-") product }      "- 1" and "0" take the intercept away
    product  = cross { "*" cross }                  a*b = a + b + a:b
    cross    = atom { ":" atom }
    atom     = name | call | "(" sum ")" | "0" | "1"

Calls: C(x, Treatment('a')), ns(x, 3), ns(x, knots=[..], boundary=[..]), bs(x, 5), poly(x, 2), I(x**2), log(x), log(x + 1), scale(x),
offset(..), strata(..), cluster(..), weights(..). A name with other signs than letters, digits, "_" and "." stands in backquotes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import QuestionError
from .terms import (
    BSpline,
    Categorical,
    Factor,
    Interaction,
    Log,
    Natural,
    Polynomial,
    Power,
    Scale,
    Term,
    Variable,
    factors_of,
)

LONGEST, DEEPEST = 5000, 20         # characters of a formula, brackets within brackets
TOKEN = re.compile(r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[^\W\d][\w.]*|`[^`]+`)|(?P<text>'[^']*'|\"[^\"]*\")"
                   r"|(?P<sign>\*\*|[-~+*:(),=\[\]^]))")


@dataclass(frozen=True)
class Model:
    """What a formula says.

    response : one name, or the names of Surv(...): (time, event) or (start, stop, event); empty without "~".
    intercept : False after "- 1". strata : names, "registry" among them or not. offset : a term of one column.
    cluster, weights : names of columns.
    """

    response: tuple[str, ...] = ()
    survival: bool = False
    terms: tuple[Term, ...] = ()
    intercept: bool = True
    strata: tuple[str, ...] = ()
    offset: Term | None = None
    cluster: str | None = None
    weights: str | None = None


def parse(text: str) -> Model:
    """Read a formula. Raises QuestionError that shows the place in the text and says what would be right."""
    if not isinstance(text, str) or not text.strip():
        raise QuestionError("a formula is a text", hint='for example "converted ~ age + sex"')
    if len(text) > LONGEST:
        raise QuestionError(f"the formula has more than {LONGEST} characters")
    return _Parser(text).formula()


def parse_terms(covariates: str | Sequence[str | Term]) -> Model:
    """Covariates as plain arguments: names, or right-hand sides of a formula, such as "age:sex" or "ns(edss, 3)"."""
    found: list[Term] = []
    many: Sequence[Any] = (covariates,) if isinstance(covariates, str) else covariates
    intercept = True
    for one in many:
        if isinstance(one, str):
            model = parse(one)
            if model.response or model.strata or model.offset is not None or model.cluster or model.weights:
                raise QuestionError(f'"{one}" is not a covariate', hint="strata, offset and cluster are arguments of their own")
            found += model.terms
            intercept = intercept and model.intercept
        else:
            found.append(one)
    return Model(terms=_tidy(found), intercept=intercept)


def parse_term(text: str | Term) -> Term:
    """One term, such as an offset: "log(years)". Raises QuestionError."""
    if not isinstance(text, str):
        return text
    model = parse_terms(text)
    if len(model.terms) != 1:
        raise QuestionError(f'"{text}": one term is wanted here')
    return model.terms[0]


def _tidy(terms: Sequence[Term]) -> tuple[Term, ...]:
    """Each term once, main effects before interactions, as R orders them."""
    found: dict[frozenset[Factor], Term] = {}
    for term in terms:
        found.setdefault(frozenset(factors_of(term)), term)
    return tuple(sorted(found.values(), key=lambda one: len(factors_of(one))))


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass
class _Extras:
    """What a right-hand side says beside its terms."""

    intercept: bool = True
    strata: list[str] = field(default_factory=list)
    offset: Term | None = None
    cluster: str | None = None
    weights: str | None = None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.extras, self.depth = text, _Extras(), 0
        self.tokens, at = [], 0
        while text[at:].strip():
            match = TOKEN.match(text, at)
            if match is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise self.wrong(f'"{text[at]}" means nothing in a formula', at, "names with other signs stand in backquotes: `T2 lesions`")
            kind = match.lastgroup or ""
            self.tokens.append(_Token(kind, match[kind], match.start(kind)))
            at = match.end()
        self.tokens.append(_Token("end", "", len(text)))
        self.place = 0

    # -- tokens

    @property
    def here(self) -> _Token:
        return self.tokens[self.place]

    def take(self) -> _Token:
        token = self.here
        self.place += token.kind != "end"
        return token

    def eat(self, sign: str) -> bool:
        if self.here.kind == "sign" and self.here.text == sign:
            self.place += 1
            return True
        return False

    def need(self, sign: str) -> None:
        if not self.eat(sign):
            raise self.wrong(f'"{sign}" is missing')

    def wrong(self, what: str, at: int | None = None, hint: str = "") -> QuestionError:
        at = self.here.at if at is None else at
        before, after = self.text[max(0, at - 30):at], self.text[at:at + 15]
        return QuestionError(f"formula, character {at + 1}: {what}: {before}⟨here⟩{after}", hint=hint)

    def name(self) -> str:
        token = self.here
        if token.kind != "name":
            raise self.wrong("the name of a variable is wanted")
        self.take()
        return token.text.strip("`")

    def number(self) -> float:
        negative = self.eat("-")
        token = self.here
        if token.kind != "number":
            raise self.wrong("a number is wanted")
        self.take()
        number = float(token.text)
        if not math.isfinite(number):
            raise self.wrong("this number is too large", token.at)
        return -number if negative else number

    def whole(self) -> int:
        at, value = self.here.at, self.number()
        if value != int(value):
            raise self.wrong("a whole number is wanted", at)
        return int(value)

    # -- grammar

    def formula(self) -> Model:
        response: tuple[str, ...] = ()
        survival = False
        if any(token.kind == "sign" and token.text == "~" for token in self.tokens):
            response, survival = self.response()
            self.need("~")
        terms = self.sum()
        if self.here.kind != "end":
            raise self.wrong(f'"{self.here.text}" is not expected', hint='join terms with "+", ":" or "*"')
        more = self.extras
        return Model(response, survival, _tidy(terms), more.intercept, tuple(dict.fromkeys(more.strata)), more.offset, more.cluster,
                     more.weights)

    def response(self) -> tuple[tuple[str, ...], bool]:
        if self.here.text != "Surv":
            return (self.name(),), False
        self.take()
        self.need("(")
        names = [self.name()]
        while self.eat(","):
            names.append(self.name())
        if len(names) not in (2, 3):
            raise self.wrong("Surv takes (time, event) or (start, stop, event)")
        self.need(")")
        return tuple(names), True

    def sum(self) -> list[Term]:
        found: list[Term] = []
        negative = self.eat("-")
        while True:
            at = self.here.at
            terms = self.product(negative)
            if negative:
                gone = {frozenset(factors_of(term)) for term in terms}
                if terms and not gone & {frozenset(factors_of(term)) for term in found}:
                    raise self.wrong("a term is taken away that is not there", at)
                found = [term for term in found if frozenset(factors_of(term)) not in gone]
            else:
                found += terms
            if self.eat("+"):
                negative = False
            elif self.eat("-"):
                negative = True
            else:
                return found

    def product(self, negative: bool) -> list[Term]:
        parts = [self.cross(negative)]
        while self.eat("*"):
            parts.append(self.cross(negative))
        if len(parts) == 1:
            return parts[0]
        found: list[Term] = []
        for size in range(1, len(parts) + 1):
            for some in itertools.combinations(parts, size):
                found += self.crossed(some)
        return found

    def cross(self, negative: bool) -> list[Term]:
        parts = [self.atom(negative)]
        while self.eat(":"):
            parts.append(self.atom(negative))
        return parts[0] if len(parts) == 1 else self.crossed(parts)

    def crossed(self, parts: Sequence[list[Term]]) -> list[Term]:
        found: list[Term] = []
        for some in itertools.product(*parts):
            factors = tuple(dict.fromkeys(factor for term in some for factor in factors_of(term)))
            found.append(factors[0] if len(factors) == 1 else Interaction(factors))
        return found

    def atom(self, negative: bool) -> list[Term]:
        token = self.here
        if token.kind == "number":
            value = self.number()
            if value not in (0.0, 1.0):
                raise self.wrong("only 0 and 1 stand for the intercept", token.at, "write I(x**2) for a power, offset(x) for a known part")
            self.extras.intercept = (value == 1.0) != negative
            return []
        if self.eat("("):
            self.depth += 1
            if self.depth > DEEPEST:
                raise self.wrong("too many brackets within brackets")
            found = self.sum()
            self.depth -= 1
            self.need(")")
            return found
        name = self.name()
        if self.here.text in ("**", "^"):
            raise self.wrong("a power stands inside I(...)", hint=f"write I({name}**2)")
        if not self.eat("("):
            return [Variable(name)]
        found = self.call(name, token.at)
        self.need(")")
        return found

    def call(self, name: str, at: int) -> list[Term]:
        """One call, its opening bracket read, its closing one not."""
        more = self.extras
        if name in ("strata", "cluster", "weights"):
            names = [self.name()]
            while name == "strata" and self.eat(","):
                names.append(self.name())
            if name == "strata":
                more.strata += names
            else:
                if getattr(more, name) is not None:
                    raise self.wrong(f"{name}(...) stands twice", at)
                setattr(more, name, names[0])
            return []
        if name == "offset":
            if more.offset is not None:
                raise self.wrong("offset(...) stands twice", at)
            inner = self.sum()
            if len(inner) != 1:
                raise self.wrong("an offset is one term", at, "for example offset(log(years))")
            more.offset = inner[0]
            return []
        makers = {"C": self.levels, "ns": self.natural, "bs": self.bspline, "poly": self.polynomial, "I": self.power, "log": self.log,
                  "scale": self.scale}
        if name not in makers:
            raise self.wrong(f'there is no function "{name}"', at,
                             "there are C, ns, bs, poly, I, log, scale, offset, strata, cluster, weights")
        return [makers[name]()]

    def levels(self) -> Term:
        name = self.name()
        if not self.eat(","):
            return Categorical(name)
        if self.here.kind == "name":
            if self.take().text != "Treatment":
                raise self.wrong("the coding is Treatment", hint="write C(x, Treatment('none'))")
            self.need("(")
            reference = self.level()
            self.need(")")
        else:
            reference = self.level()
        return Categorical(name, reference)

    def level(self) -> str:
        token = self.take()
        if token.kind not in ("text", "number"):
            raise self.wrong("a level in quotes is wanted", token.at)
        return token.text.strip("'\"")

    def options(self, *known: str) -> dict[str, Any]:
        """Named and unnamed arguments after the first; an unnamed one is the first of `known`."""
        found: dict[str, Any] = {}
        while self.eat(","):
            at, key = self.here.at, known[0]
            if self.here.kind == "name":
                key = self.take().text
                self.need("=")
            if key not in known or key in found:
                raise self.wrong(f'"{key}" is not expected here', at, "known are " + ", ".join(known))
            if self.eat("["):
                values = [self.number()]
                while self.eat(","):
                    values.append(self.number())
                self.need("]")
                found[key] = tuple(values)
            else:
                found[key] = self.whole() if key in ("df", "degree") else self.number()
        return found

    def natural(self) -> Term:
        name, at, given = self.name(), self.here.at, self.options("df", "knots", "boundary")
        boundary = given.get("boundary")
        if boundary is not None and (not isinstance(boundary, tuple) or len(boundary) != 2):
            raise self.wrong("boundary is two numbers", at, "write boundary=[20, 60]")
        return Natural(name, given.get("df"), _list(given.get("knots", ())), boundary)

    def bspline(self) -> Term:
        name, given = self.name(), self.options("df", "knots", "degree")
        return BSpline(name, given.get("df"), _list(given.get("knots", ())), given.get("degree", 3))

    def polynomial(self) -> Term:
        name, at, given = self.name(), self.here.at, self.options("degree")
        if not isinstance(given.get("degree"), int):
            raise self.wrong("poly takes a degree", at, f"write poly({name}, 2)")
        return Polynomial(name, given["degree"])

    def power(self) -> Term:
        name = self.name()
        if not (self.eat("**") or self.eat("^")):
            raise self.wrong("I(...) holds a power", hint=f"write I({name}**2)")
        return Power(name, self.whole())

    def log(self) -> Term:
        name = self.name()
        return Log(name, self.number()) if self.eat("+") else Log(name)

    def scale(self) -> Term:
        name, given = self.name(), self.options("center", "by")
        return Scale(name, given.get("center"), given.get("by"))


def _list(value: Any) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
