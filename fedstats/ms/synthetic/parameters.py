"""The numbers behind the synthetic registries, each with its unit and source, in `history_parameters.json`.

tag : V verified in the source named, D derived from such material or calibrated to it, M assumed or from memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import InputError

Parameters = Mapping[str, Any]


@cache
def sources() -> Mapping[str, Mapping[str, Any]]:
    """{name: {"value", "unit", "tag", "source"}}."""
    return json.loads(Path(__file__).with_name("history_parameters.json").read_text("utf-8"))


def parameters(**changes: Any) -> Parameters:
    """The values by name, with these in place of the shipped ones. Raises InputError for a name that is none."""
    for name in changes:
        if name not in sources():
            raise InputError(f'"{name}" is no parameter of the natural history', hint="see history_parameters.json")
    return {name: one["value"] for name, one in sources().items()} | changes
