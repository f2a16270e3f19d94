"""What a new epoch of a consortium changes, told to whoever is asked to accept it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..wire.roster import Consortium


def changes(before: Consortium | None, after: Consortium) -> list[str]:
    """What a new roster changes, one sentence each; everything is new where none was accepted before."""
    old = {} if before is None else {member.public.name: member for member in before.members}
    new = {member.public.name: member for member in after.members}
    lines = [f"{'new' if before else 'member'}: {member.role} {name}, fingerprint {member.public.fingerprint}"
             for name, member in new.items() if name not in old]
    lines += [f"gone: {member.role} {name}" for name, member in old.items() if name not in new]
    for name in new:
        if name in old and old[name] != new[name]:
            what = [field for field in ("role", "identity", "addresses") if getattr(old[name], field) != getattr(new[name], field)]
            lines.append(f"changed: {name} ({', '.join(what)})")
    if before is None or before.effective_rules != after.effective_rules:
        lines.append(f"rules: {after.effective_rules.sentence()}")
    if before is not None and before.dictionary_sha256 != after.dictionary_sha256:
        lines.append(f"dictionary: now sha256 {after.dictionary_sha256[:16]}...")
    if before is not None and before.max_patients_per_registry != after.max_patients_per_registry:
        lines.append(f"at most {after.max_patients_per_registry} patients per registry")
    return lines or ["nothing but the epoch changed" if before and before.epoch != after.epoch else "nothing changed"]


def copy_path(key: Path) -> Path:
    """A copy of the accepted file, so that the next acceptance can say what changed."""
    return Path(f"{key}.accepted.toml")


def epoch_path(key: Path, before: Consortium) -> Path:
    """Where the file of an earlier epoch is kept, once a later one is accepted."""
    return Path(f"{key}.epoch{before.epoch}.toml")


def accepted(key: Path) -> Consortium | None:
    """The consortium file that this party accepted last, None without one."""
    from ..errors import FedstatsError
    from ..wire.roster import Consortium, check_pin

    try:
        before = Consortium.load(copy_path(key))
        check_pin(before, key, copy_path(key))
        return before
    except FedstatsError:
        return None             # none yet, or not the pinned one: then everything is shown as new
