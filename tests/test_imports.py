"""Imports go down the picture of ARCHITECTURE, never up; heavy libraries enter through one door each."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for package in ("fedstats", "nodes") for path in (ROOT / package).rglob("*.py"))

# From the ground up. A file may import its own layer and those below it.
LAYERS = [
    {"errors", "views", "nonfinite", "native"},
    {"reading", "tables", "variable"},
    {"dictionary", "cells"},
    {"forms"},
    {"rows"},
    {"filters", "statistic", "steady", "disclosure", "crypto"},
    {"splines"},
    {"terms", "formula", "weights"},
    {"suppression", "release"},
    {"seal", "analysis"},
    {"rounds", "analyses", "ms", "booster"},
    {"population", "overlaps"},
    {"differences", "linked"},
    {"release_engine"},
    {"driver"},
    {"wire"},
    {"coordinator", "transport"},
    {"nodes"},
    {"client", "show", "report", "schemas", "receipt", "receipt_check", "draft", "risk"},
    {"fedstats"},           # the package itself: its public names
    {"demo", "cli"},
]
# Upward, with a reason.
ALLOWED = {
    ("analysis", "show"),   # result.frame() and result.plot() hand themselves over, inside the method
}
MAY_IMPORT_NODES = {"demo", "transport/memory", "cli"}
DOORS = {       # library -> the files that may import it
    "tenseal": {"fedstats/crypto/he.py", "fedstats/crypto/sealmemory.py"},
    "httpx": {"fedstats/transport/http.py"},
    # sealformat: SEAL compresses what it writes with zstd, and Arrow brings a decoder
    "pyarrow": {"fedstats/tables.py", "fedstats/crypto/sealformat.py"},
    "matplotlib": {"fedstats/show/"},
    "pandas": {"fedstats/show/", "fedstats/ms/"},
    "starlette": {"fedstats/coordinator/"},
    "uvicorn": {"fedstats/coordinator/"},
    "typer": {"fedstats/cli/", "nodes/cli.py"},
    "sqlite3": {"nodes/"}, "numba": {"fedstats/ms/kernels.py", "fedstats/analyses/boosting/kernels.py"},
    "xgboost": {"fedstats/booster.py"}, "opendp": {"fedstats/analyses/boosting/noise.py"},
    "pickle": set(), "marshal": set(), "shelve": set(), "dill": set(), "joblib": set(), "lifelines": set(), "statsmodels": set(),
    "sklearn": set(), "patsy": set(), "formulaic": set(),
}
LATE = ["tenseal", "pandas", "matplotlib", "scipy.stats", "scipy.optimize", "pyarrow", "httpx", "starlette",
        "typer", "rich", "sqlite3", "numba", "xgboost", "opendp"]
NEVER = {"eval", "exec", "compile", "__import__"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def part_of(module):
    """fedstats.crypto.he -> crypto; fedstats -> fedstats; nodes.journal -> nodes."""
    words = module.split(".")
    if words[:2] == ["nodes", "cli"]:
        return "cli"            # the commands of a node are a shell like those of the analyst
    return words[0] if words[0] == "nodes" or len(words) == 1 else words[1]


def imports(path):
    """Modules that a file imports, wherever in it: absolute names, "from x import y" as x.y where that is a module."""
    package = path.relative_to(ROOT).with_suffix("").parts
    package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[:len(package) - node.level + 1]) if node.level else []
            base += (node.module or "").split(".") if node.module else []
            for one in node.names:
                inner = ROOT.joinpath(*base, one.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                # the version is the package's only name that lower layers may use
                if base != ["fedstats"] or is_module or one.name != "__version__":
                    yield ".".join([*base, one.name] if is_module else base)


def layer(part):
    return next((k for k, names in enumerate(LAYERS) if part in names), None)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_downwards_only(path):
    """Every import of this file leads to its own layer or one below it."""
    here = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert layer(here) is not None, f"{here} has no layer: add it to LAYERS"
    own = name_of(path).removeprefix("fedstats/").removesuffix(".py")
    for module in imports(path):
        if module.split(".")[0] not in ("fedstats", "nodes"):
            continue
        there = part_of(module)
        if there == "nodes" and not own.startswith("nodes/"):
            assert any(own == one or own.startswith(one + "/") for one in MAY_IMPORT_NODES), f"{name_of(path)} imports {module}"
        elif (here, there) not in ALLOWED:
            assert layer(there) is not None and layer(there) <= layer(here), f"{name_of(path)} imports {module}, which is above it"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_enter_through_one_door(path):
    """tenseal, httpx, Arrow, pandas, matplotlib and the web server are each imported by one file or folder only."""
    own = name_of(path)
    for module in imports(path):
        doors = DOORS.get(module.split(".")[0])
        inside = [door for door in doors or () if own == door or (door.endswith("/") and own.startswith(door))]
        assert doors is None or inside, f"{own} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_evaluated(path):
    """No eval, exec or compile of text anywhere; no pandas query."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in NEVER, f"{name_of(path)} line {node.lineno} calls {node.func.id}"


def test_joint_halves_stay_free_of_clocks_files_and_network():
    """Pure from the wire downwards: no time, no random, no sockets, no files except the dictionary, roster and keys that are read."""
    for path in FILES:
        part = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        assert layer(part) is not None, f"{part} has no layer: add it to LAYERS"
        if layer(part) <= layer("driver"):
            found = {module.split(".")[0] for module in imports(path)} & {"time", "random", "socket", "threading", "asyncio", "logging"}
            assert not found, f"{name_of(path)} imports {sorted(found)}"


def test_importing_fedstats_is_light():
    """The package alone loads neither the outer seal nor frames, pictures, Arrow or statistics; its time is printed (pytest -s)."""
    code = ("import json, sys, time\nstart = time.perf_counter()\nimport fedstats\n"
            "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, loaded = json.loads(found.stdout)
    print(f"\nimport fedstats: {seconds:.2f} s")

    assert not [name for name in LATE if name in loaded]
