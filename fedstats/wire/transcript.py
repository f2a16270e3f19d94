"""What all parties must have seen alike, as hashes, and whether a query may be looked at at all (PROTOCOL, phases 0, 1 and 4)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..crypto.identity import usable
from ..errors import Aborted, FedstatsError, MessageError, Problem, Refused, as_error
from ..query.analysis import Result
from .messages import Parcel, Query, hashed
from .roster import Consortium

SKEW_SECONDS = 300.0            # PROTOCOL, phase 0: clocks may differ by this much at admission
LONGEST_QUERY_SECONDS = 30 * 86_400.0
DECIMAL = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")


def transcript_of(T: bytes, roster: bytes, admissions: list[bytes]) -> bytes:
    """S: what all registries must have seen alike before any key is made. admissions: signed, in the query's order."""
    return hashed(b"fedstats S/1", T, roster, *admissions)


def query_hash(parcel: Parcel) -> bytes:
    """T: the hash of the signed query."""
    return hashed(b"fedstats T/1", parcel.signed)


def check_query(query: Query, roster: Consortium, now: float) -> None:
    """Whether a query may be looked at all: its roster, its registries, its time. Raises Refused or MessageError."""
    if query.roster != roster.digest:
        raise Refused("the query was made under another roster (epoch)",
                      hint="all parties accept the current consortium file and are started again; then ask again")
    if roster.role(query.analyst) != "analyst":
        raise Refused(f"{query.analyst} is not an analyst of this consortium")
    if not usable(query.onetime):
        raise MessageError("the analyst's one-time key would keep no secret")
    if len(set(query.registries)) != len(query.registries) or any(roster.role(name) != "registry" for name in query.registries):
        raise MessageError("the query names a registry twice, or one that is not in the roster")
    fewest = roster.fewest_registries
    if len(query.registries) < fewest:
        raise Refused(f"a query needs at least {fewest} registries (rule min_registries), this one names {len(query.registries)}",
                      hint="name more registries")
    check_time(query, now)


def check_time(query: Query, now: float) -> None:
    """Whether a query is of today. Raises Refused that says how far the two clocks are apart."""
    made = f"it was made {clock_words(query.created - now)} this registry's clock"
    if query.created > now + SKEW_SECONDS:
        raise Refused(f"the query comes from the future: {made}", hint="set the clocks of both machines")
    if query.expires < now - SKEW_SECONDS:
        raise Refused(f"the query has expired: {made}", hint="ask again; if that is not so, set the clocks of both machines")
    if query.expires - query.created > LONGEST_QUERY_SECONDS:
        raise Refused("the query would live longer than 30 days", hint="ask again with a shorter time")


def clock_words(seconds: float) -> str:
    """How far one clock is from another: "6 min 12 s ahead of", "2 h 0 min behind"."""
    size, way = round(min(abs(seconds), 1e12)), "ahead of" if seconds > 0 else "behind"
    for unit, name, smaller, small in (
        (86_400, "days", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if size >= unit:
            return f"{size // unit} {name} {size % unit // smaller} {small} {way}"
    return f"{size} s {way}"


def decisions_of(results: list[Result]) -> bytes:
    """Digest of what the release rules decided: every whole number, text and gap of the results, floats left out.

    Floats may differ in the last digit between machines; what is shown and what is not may not.
    """

    def skeleton(value: Any) -> Any:
        if isinstance(value, float):
            return "float"
        if isinstance(value, str):
            return DECIMAL.sub("float", value)      # sentences quote rounded floats
        if isinstance(value, dict):
            return {key: skeleton(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [skeleton(one) for one in value]
        return value

    return hashed(b"decisions", msgspec.json.encode([skeleton(result.to_dict()) for result in results]))


def refusal_of(registry: str, problem: Problem | None) -> FedstatsError:
    """A registry's no, in its own name. problem : its reason, None if it gave none that can be read."""
    problem = problem or Problem("refused", registry, "refused without a reason")
    error = as_error(Problem(problem.code, registry, problem.what, problem.hint))
    return error if isinstance(error, (Refused, Aborted)) else Refused(error.what, hint=error.hint, who=registry)


def two_nodes(registry: str) -> Refused:
    """What everybody says to two different admissions of one query under one key."""
    return Refused(f"two nodes answer with the key of {registry}", hint=f"{registry} stops all but one of them, a copy or a restored "
                   "machine among them; then ask again")
