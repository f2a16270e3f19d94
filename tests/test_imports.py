"""Imports go down the picture of ARCHITECTURE, never up; heavy libraries enter through one door each."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for package in ("fedstats", "nodes") for path in (ROOT / package).rglob("*.py"))

# From the roof down. A room may import itself and the rooms on floors below it, not its neighbours on the same floor.
# Rooms are folders of fedstats; errors and version are files of it, "fedstats" is the package's own list of public names.
PICTURE = """
    cli                         |  the command line, its schemas, the commands of a node
    demo                        |  a whole federation on one machine
    fedstats                    |  the public names
    risk                        |  a risk model in use
    client                      |  the analyst's side
    nodes                       |  a registry's side
    transport   coordinator     |  how parcels travel; who adds them up
    wire                        |  messages, and in which order
    ----------------------------|  pure from here down: no clock, no network, no files but what is read
    show                        |  results for people
    analyses                    |  a local and a joint half each
    query                       |  a question, its rounds, its result
    ms                          |  what an EDSS table means
    disclosure                  |  what may be said, from what results declare
    formula   crypto            |  terms, designs, weights; the seal
    sums                        |  rows -> numbers that add up over patients
    data                        |  what a cell means
    errors   version            |
"""
# Upward: file -> rooms, with the reason. An arrow that is not needed any more fails.
UPWARD = {
    # result.frame() and result.plot() hand themselves over, inside the method
    "query/analysis": {"show"},
}
MAY_IMPORT_NODES = {"demo", "client/memory", "cli"}
IMPURE = {"time", "random", "socket", "threading", "asyncio", "logging"}
DOORS = {       # library -> the files that may import it
    "tenseal": {"fedstats/crypto/he.py", "fedstats/crypto/sealmemory.py"},
    "httpx": {"fedstats/transport/http.py"},
    # sealformat: SEAL compresses what it writes with zstd, and Arrow brings a decoder
    "pyarrow": {"fedstats/data/tables.py", "fedstats/crypto/sealformat.py"},
    "matplotlib": {"fedstats/show/"},
    "pandas": {"fedstats/show/", "fedstats/ms/"},
    "starlette": {"fedstats/coordinator/"},
    "uvicorn": {"fedstats/coordinator/"},
    "typer": {"fedstats/cli/", "nodes/cli.py"},
    "sqlite3": {"nodes/"}, "numba": {"fedstats/ms/outcomes/kernels.py", "fedstats/analyses/boosting/kernels.py"},
    "xgboost": {"fedstats/analyses/boosting/booster.py"}, "opendp": {"fedstats/analyses/boosting/noise.py"},
    "pickle": set(), "marshal": set(), "shelve": set(), "dill": set(), "joblib": set(), "lifelines": set(), "statsmodels": set(),
    "sklearn": set(), "patsy": set(), "formulaic": set(),
}
LATE = ["tenseal", "pandas", "matplotlib", "scipy.stats", "scipy.optimize", "pyarrow", "httpx", "starlette",
        "typer", "rich", "sqlite3", "numba", "xgboost", "opendp"]
NEVER = {"eval", "exec", "compile", "__import__"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def floors():
    """The rooms of PICTURE, one set per floor, from the ground up."""
    drawn = [line.partition("|")[0] for line in PICTURE.strip().splitlines()]
    return [set(names.split()) for names in reversed(drawn) if "---" not in names]


def room_of(module):
    """fedstats.crypto.he -> crypto; fedstats -> fedstats; fedstats.errors -> errors; nodes.journal -> nodes."""
    words = module.split(".")
    if words[:2] in (["nodes", "cli"], ["fedstats", "__main__"]):
        return "cli"            # the commands of a node are a shell like those of the analyst
    return words[0] if words[0] == "nodes" or len(words) == 1 else words[1]


def floor(room):
    return next((k for k, rooms in enumerate(FLOORS) if room in rooms), None)


def short(path):
    """fedstats/query/driver.py -> query/driver."""
    return name_of(path).removeprefix("fedstats/").removesuffix(".py")


def here(path):
    """The room of a file."""
    return room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))


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
                yield ".".join([*base, one.name] if is_module else base)


FLOORS = floors()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_downwards_only(path):
    """Every import of this file leads to its own room or a floor below it; what leads up is listed with its reason."""
    room, own = here(path), short(path)
    assert floor(room) is not None, f"{room} is on no floor: draw it in PICTURE"
    for module in imports(path):
        if module.split(".")[0] not in ("fedstats", "nodes"):
            continue
        there = room_of(module)
        if there == "nodes" and not own.startswith("nodes/"):
            may = any(own == one or own.startswith(one + "/") for one in MAY_IMPORT_NODES)
            assert may, f"{own} imports {module}"
        if there != room and there not in UPWARD.get(own, ()):
            below = floor(there) is not None and floor(there) < floor(room)
            assert below, f"{own} imports {module}, which is not below it"


def test_every_upward_arrow_is_still_there():
    """A file that no longer looks up is taken off the list."""
    for own, rooms in UPWARD.items():
        looks = {room_of(module) for module in imports(ROOT / f"fedstats/{own}.py")}

        assert rooms <= looks, f"{own} does not import {sorted(rooms - looks)} any more"


def test_the_root_holds_four_files():
    """Everything else has a room."""
    found = {path.name for path in (ROOT / "fedstats").glob("*.py")}

    assert found == {"__init__.py", "__main__.py", "errors.py", "version.py"}


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
    """Pure below the line: no time, no random, no sockets, no files except the dictionary, roster and keys that are read."""
    for path in FILES:
        if floor(here(path)) <= floor("show"):
            found = {module.split(".")[0] for module in imports(path)} & IMPURE
            assert not found, f"{name_of(path)} imports {sorted(found)}"


def test_importing_fedstats_is_light():
    """The package alone loads neither the outer seal nor frames, pictures, Arrow or statistics; its time is printed (pytest -s)."""
    code = ("import json, sys, time\nstart = time.perf_counter()\nimport fedstats\n"
            "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, loaded = json.loads(found.stdout)
    print(f"\nimport fedstats: {seconds:.2f} s")

    assert not [name for name in LATE if name in loaded]
