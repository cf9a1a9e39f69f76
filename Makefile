# Two commands do all set-up: `make run` (the main job) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed.stamp
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DRIVER := out/referee/driver
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: run test check coverage format bench install clean

run: $(STAMP)
	$(BIN)/moesim run scenarios/ep64_tp16_pp4.yaml --out out/

test: lint $(STAMP) driver
	$(BIN)/python -m pytest $(PARALLEL)

check: lint $(STAMP)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

# All tests, measured, with the programs that they start. Fails under 95 % of lines and branches together (pyproject.toml).
coverage: $(STAMP) driver
	@mkdir -p out/coverage
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet --fail-under=0 -o out/coverage/totals.json
	@$(BIN)/python -c 'import json; t = json.load(open("out/coverage/totals.json"))["totals"]; \
	    print("lines {percent_statements_covered:.1f} %, branches {percent_branches_covered:.1f} %".format(**t))'
	$(BIN)/coverage report

.PHONY: lint
lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# SimGrid (Debian: libsimgrid-dev) referees the network: without it the live comparison is skipped, and says so.
.PHONY: driver referee
driver:
	@if echo '#include <simgrid/s4u.hpp>' | $(CXX) -E -x c++ - >/dev/null 2>&1; then \
	    $(MAKE) --no-print-directory $(DRIVER) || echo "SimGrid is here, but its driver does not build" >&2; fi

$(DRIVER): tests/sim/engine/simgrid/driver.cpp
	@mkdir -p $(@D)
	$(CXX) -O2 -std=c++17 -Wall -Wextra $< -lsimgrid -o $@

referee: $(STAMP) $(DRIVER)
	$(BIN)/python tests/sim/engine/referee_keep.py

bench: $(STAMP)
	@mkdir -p out
	$(BIN)/python -m pytest benchmarks -q --benchmark-quiet --benchmark-json=out/benchmarks.json
	@$(BIN)/python benchmarks/table.py out/benchmarks.json

# The site is written to site/; a link that leads nowhere, or any warning, fails. What builds it is installed here only (the
# extra `docs`, without moesim itself, which is there), so that tests do without.
.PHONY: docs reference
docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/docs.stamp: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mkdocs-material
	@touch $@

# Pages that are made from the schema and the program: run it when either changes.
reference: $(STAMP)
	$(BIN)/python tools/reference.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamp holds what was installed from, so that pip (and the network) is called only where that has changed, and not
# because a checkout has touched the files. What builds is installed first: constraints do not reach isolated builds.
$(STAMP): pyproject.toml constraints.txt
	@if cat $^ | cmp -s - $@; then touch $@; else $(MAKE) --no-print-directory install; fi

install:
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	        echo "moesim needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12 run" >&2; exit 1; }; \
	    echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv $(VENV); }
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[dev,pandas]'
	@cat pyproject.toml constraints.txt > $(STAMP)

clean:
	rm -rf $(VENV) out site build dist .mypy_cache .ruff_cache .pytest_cache
