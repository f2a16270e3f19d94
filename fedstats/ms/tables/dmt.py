"""Disease-modifying treatments: from what people write to a generic name and an efficacy class.

The knowledge is in `dmt.json` beside this file, and a study may bring its own in the same form (`Treatments.load`). Nothing is
guessed: a name that is neither a generic name, a brand, a listed spelling nor an ATC code (current or earlier) is unknown, and
counted. Capitals, accents, punctuation and doses do not matter ("Rébif® 44 µg" is Rebif).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from ...data.reading import read_json
from ...errors import InputError

SHIPPED = Path(__file__).with_name("dmt.json")
Efficacy = Literal["low", "moderate", "high"]
EFFICACY: tuple[str, ...] = ("low", "moderate", "high")
# codes of names that are in no list, of names that are no such treatment, and, in tables, of those
# among them that may change the disease nevertheless
UNKNOWN, NOT_DMT, TRIAL = -1, -2, -3

_ATC = re.compile(r"[A-Z][0-9]{2}[A-Z]{2}[0-9]{2}")
_DOSE = re.compile(r"\s+[0-9]+([.,/][0-9]+)?\s*(mg|mcg|ug|µg|g|ml|iu|ie|ui|miu|mui|mio|million)?\b.*$")


class Treatment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One disease-modifying treatment. unverified : fields that nobody has checked against their source.

    infusion_days : days from one infusion to the next, of what is written down infusion by infusion.
    course_days : a treatment of at most so many days is a course, whose effect lasts; 0: there are none.
    """

    name: str
    efficacy: Efficacy
    atc: tuple[str, ...] = ()
    old_atc: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    atc_source: str = ""
    unverified: tuple[str, ...] = ()
    note: str = ""
    infusion_days: int = 0
    course_days: int = 0


class Other(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is written into treatment tables but modifies no disease: steroids, vitamins, trial drugs.

    exposes : whoever had it is not untreated all the same: it may have been a treatment (a blinded drug).
    """

    name: str
    atc: tuple[str, ...] = ()
    spellings: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    note: str = ""
    exposes: bool = False


class Treatments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, dict=True):
    """The list of treatments, see `dmt.json`."""

    name: str
    treatments: tuple[Treatment, ...]
    version: str = ""
    description: str = ""
    sources: tuple[str, ...] = ()
    not_dmt: tuple[Other, ...] = ()

    @classmethod
    def from_dict(cls, source: Any) -> Treatments:
        """A list from plain data. Raises InputError where two treatments share a name, a brand, a spelling or a code."""
        try:
            found = msgspec.convert(source, cls, strict=True)
        except msgspec.ValidationError as error:
            raise InputError(f"list of treatments: {error}", hint="see schemas/ms_dmt.json") from None
        if not found.treatments:
            raise InputError("list of treatments: it is empty")
        assert found._places is not None        # looks for names that stand for two
        return found

    @classmethod
    def load(cls, path: str | Path) -> Treatments:
        """Read a list from a JSON file. Raises InputError naming the file."""
        source = read_json(path, "list of treatments")
        try:
            return cls.from_dict(source)
        except InputError as error:
            raise InputError(f"{path}: {error.what}", hint=error.hint) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Generic names; a treatment's code is its place here."""
        return tuple(one.name for one in self.treatments)

    def efficacy(self, code: int) -> int:
        """The place of a treatment's class in `EFFICACY`, or -1."""
        return EFFICACY.index(self.treatments[code].efficacy) if code >= 0 else -1

    def find(self, text: str) -> int:
        """The code of a treatment from anything that people write, `NOT_DMT` or `UNKNOWN`.

        Brackets may name it a second time: "glatiramer acetate (Copaxone)"; if they disagree it is unknown.
        """
        found = {code for part in _readings(text) if (code := self._find_one(part)) != UNKNOWN}
        return found.pop() if len(found) == 1 else UNKNOWN

    def find_atc(self, text: str) -> int:
        """The code of a treatment from its current or an earlier ATC code, `NOT_DMT` or `UNKNOWN`."""
        return self._codes.get(text.strip().upper().replace(" ", ""), UNKNOWN)

    def exposes(self, text: str) -> bool:
        """Whether a name or code that is no such treatment may have been one all the same."""
        words = [plain(part) for part in _readings(text)]
        codes = [part.strip().upper().replace(" ", "") for part in _readings(text)]
        return not self._exposing.isdisjoint([*words, *(_DOSE.sub("", one) for one in words), *codes])

    @cached_property
    def _exposing(self) -> set[str]:
        others = [one for one in self.not_dmt if one.exposes]
        return {plain(text) for one in others for text in (one.name, *one.spellings)} | {atc for one in others for atc in one.atc}

    def _find_one(self, text: str) -> int:
        if (code := self.find_atc(text)) != UNKNOWN:
            return code
        words = plain(text)
        return self._places.get(words, self._places.get(_DOSE.sub("", words), UNKNOWN))

    def _all(self) -> list[tuple[int, Treatment | Other]]:
        return [*enumerate(self.treatments), *((NOT_DMT, other) for other in self.not_dmt)]

    @cached_property
    def _places(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for code, one in self._all():
            brands = one.brands if isinstance(one, Treatment) else ()
            for text in (one.name, *brands, *one.spellings):
                if not plain(text):
                    raise InputError(f'list of treatments: "{one.name}" has an empty name')
                if found.setdefault(plain(text), code) != code:
                    raise InputError(f'list of treatments: "{text}" stands for two treatments', hint="let each name stand for one")
        if len(set(self.names)) != len(self.names):
            raise InputError("list of treatments: a treatment is listed twice")
        assert self._codes is not None
        return found

    @cached_property
    def _codes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for code, one in self._all():
            for atc in (*one.atc, *(one.old_atc if isinstance(one, Treatment) else ())):
                if not _ATC.fullmatch(atc):
                    raise InputError(f'list of treatments: "{atc}" is not an ATC code', hint="such as L04AG03")
                if found.setdefault(atc, code) != code:
                    raise InputError(f"list of treatments: the ATC code {atc} stands for two treatments")
        return found


def plain(text: str) -> str:
    """Text without capitals, accents, marks and punctuation: "Rébif® 44-µg" is "rebif 44 µg"."""
    letters = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("™", " ").replace("®", " "))
    kept = "".join(mark for mark in letters if not unicodedata.combining(mark)).casefold()
    kept = re.sub(r"(?<=[0-9])[.,](?=[0-9])", "\0", kept)       # 0.5 stays one number
    return re.sub(r"[^\w\0]+|_", " ", kept).replace("\0", ".").strip()


@lru_cache(maxsize=1)
def shipped() -> Treatments:
    """The list that comes with fedstats."""
    return Treatments.load(SHIPPED)


def _readings(text: str) -> list[str]:
    outside, inside = re.sub(r"\([^()]*\)", " ", text), re.findall(r"\(([^()]*)\)", text)
    return [text] if not inside else [outside, *inside]
