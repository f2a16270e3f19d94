"""fedstats receipt: whether a result is the one that all registries signed; offline, with the consortium file only."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .filters import words
from .manners import Json, machine, plain_group

if TYPE_CHECKING:
    from ..client.receipt_check import Proof
    from ..wire.roster import Consortium

app = plain_group("Check what a released result rests on.")


@app.callback()
def group() -> None:
    """Check what a released result rests on."""


@app.command()
def check(file: Annotated[Path, typer.Argument(help="The receipt, as ask --receipt or risk train wrote it.")],
          consortium: Annotated[Path, typer.Option(help="The consortium file of the epoch in which the question was asked.")],
          result: Annotated[Path | None, typer.Option(help="A file of results (ask --json): whether it is what was signed.")] = None,
          json: Json = False) -> None:
    """Check, offline, every signature that a result rests on.

    The analyst asked this; every registry admitted it, let the result out and released the same numbers. Exit code 0 only if all of it
    holds, 5 if something does not. Compare the fingerprint with the one that you know: the receipt is worth as much as the consortium
    file.

    \b
    Examples:
      fedstats receipt check receipt.json --consortium ms.toml
      fedstats receipt check receipt.json --consortium ms.toml --result result.json
    """
    from ..client.receipt_check import check_receipt, check_results
    from ..show.words import plain
    from ..wire.receipt import read_receipt
    from ..wire.roster import Consortium

    roster = Consortium.load(consortium)
    proof = check_receipt(read_receipt(file), roster)
    digits = check_results(proof, result) if result else {}
    told = facts(proof, roster) | cohort(proof, roster, consortium)
    if json:
        machine(told | {"digits": {name: list(signers) for name, signers in digits.items()}})
        return
    for name, value in told.items():
        lines = [f"{who} {cut}" for who, cut in value.items()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for k, line in enumerate(lines):
            print(f"{'' if k else name + ':':<15}{plain(line)}")
    print(f"\nevery signature holds: {proof.query.analyst} asked this; {', '.join(proof.registries)} admitted it, let the result out and "
          "released the same numbers")
    for name, signers in digits.items():
        print(f'"{plain(name)}" in {result} is what they released, to the last digit {by(signers, proof)}')


def facts(proof: Proof, roster: Consortium) -> dict[str, Any]:
    """What the signed query and admissions say, as plain data."""
    query = proof.query
    asked = datetime.datetime.fromtimestamp(query.created, datetime.UTC)
    return {"consortium": f"{roster.name}, epoch {roster.epoch}", "fingerprint": roster.fingerprint, "query": query.name,
            "analyst": query.analyst, "asked": asked.strftime("%Y-%m-%d %H:%M UTC"), "purpose": query.purpose or "not stated",
            "data cuts": proof.data_cuts, "software": f"fedstats {proof.software}",
            "release rules": proof.rules.sentence(), "questions": [str(one) for one in query.questions]}


def cohort(proof: Proof, roster: Consortium, file: Path) -> dict[str, str]:
    """Whom the signed query was about, in words; a cohort on tables of MS by its hash where the consortium's dictionary is not at hand."""
    from ..data.filters import normal_filter
    from ..errors import InputError

    query = proof.query
    where = {"conditions": words(normal_filter(query.where))}
    if query.cohort is None:
        return where
    try:
        recipe = roster.load_codebook(file).recipe(query.cohort.tree)
    except InputError:
        recipe = None
    known = recipe is not None and recipe.hash == query.cohort.hash
    return {"cohort": recipe.sentence() if known and recipe else f"recipe {query.cohort.hash}"} | where


def by(signers: tuple[str, ...], proof: Proof) -> str:
    """Whose digits a result has."""
    return "of all of them" if signers == proof.registries else f"of {', '.join(signers)}; of the others within 1e-9"
