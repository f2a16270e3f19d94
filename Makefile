# Two commands do everything on a machine that has Python 3.11 or newer and make: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test test-all lint bench schemas clean

help:                 ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("fedstats needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY)        ## a whole federation on this machine: five registries, several questions, a risk model, a report
	$(BIN)/fedstats demo --out demo

lint: $(READY)        ## ruff and mypy
	$(BIN)/ruff check --output-format concise .
	$(BIN)/mypy

test: lint            ## everything that must pass before a change lands (under 15 minutes on two cores)
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: lint        ## the slow checks too
	$(BIN)/python -m pytest -n auto

bench: $(READY)       ## prints measurements; asserts nothing about time
	for file in tests/bench/bench_*.py; do echo "== $$file"; $(BIN)/python -m tests.bench.$$(basename $$file .py) || exit 1; done

schemas: $(READY)     ## write schemas/ anew from the types
	$(BIN)/python -m fedstats.cli.schemas schemas

clean:                ## forget the environment and what was made
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
