# Two commands on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
SEEDS ?= 100
FIRST ?= 1
HOURS ?= 1

.PHONY: demo bench test check form types suite quick matrix simulate soak docs clean

$(VENV)/demo.stamp: EXTRAS := demo,http
$(VENV)/test.stamp: EXTRAS := demo,test
$(VENV)/docs.stamp: EXTRAS := docs

# uv finds and unpacks the packages in a fifth of the processor time of pip; where it is not to be had, or does
# not reach the index that pip is set up for, pip does all
$(VENV)/%.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --only-binary uv uv && $(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[$(EXTRAS)]" \
	    || $(PIP) -e ".[$(EXTRAS)]"
	@touch $@

demo: $(VENV)/demo.stamp  ## the main job, end to end, on real processes; HTTP=1: then a page to look at it
	$(BIN)/entgldb demo $(if $(HTTP),--http 127.0.0.1:0)

bench: $(VENV)/demo.stamp  ## every figure beside its floor, in seven minutes on a quiet machine
	$(BIN)/entgldb bench

check: form types  ## formatting, lint, types, layers

form: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/test.stamp
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

quick: $(VENV)/test.stamp  ## what runs in under 90 seconds
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not slow"

matrix:  ## the quick tests on every Python from 3.11 that is found
	$(PYTHON) tests/matrix.py

test: form  ## all checks and all tests; tests wait now and then, so the types are checked beside them
	$(MAKE) --no-print-directory -j 2 types suite

# compiles all tests once, in place of once in each of the processes that run them; a fault in a module is told
# by the run itself
$(VENV)/compiled.stamp: $(VENV)/test.stamp $(shell find tests -name '*.py')
	-@$(BIN)/python -m pytest --collect-only -q > /dev/null
	@touch $@

# six for two cores: tests of real nodes wait most of their time, and four leave a sixth of the cores idle
suite: $(VENV)/compiled.stamp
	$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder

simulate: $(VENV)/test.stamp  ## make simulate SEEDS=300 [FIRST=1]
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

soak: $(VENV)/test.stamp  ## make soak HOURS=8: fresh seeds and kills, at least 10,000 and 1,000 an hour
	$(BIN)/python -m tests.soak $(HOURS)

docs: $(VENV)/docs.stamp  ## the pages as a site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build dist src/*.egg-info
