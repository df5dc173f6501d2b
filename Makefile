# Two commands on a fresh machine with Python >= 3.11: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 100
FIRST ?= 1
HOURS ?= 1

.PHONY: demo bench test check quick simulate soak clean

$(VENV)/demo.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[demo]"
	@touch $@

$(VENV)/test.stamp: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[demo,test]"
	@touch $@

demo: $(VENV)/demo.stamp  ## the main job, end to end, on real processes
	$(BIN)/entgldb demo

bench: $(VENV)/demo.stamp  ## every figure beside its floor, in five minutes on a quiet machine
	$(BIN)/entgldb bench

check: $(VENV)/test.stamp  ## formatting, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

quick: $(VENV)/test.stamp  ## what runs in under 90 seconds
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow"

matrix:  ## the quick tests on every Python from 3.11 that is found
	$(PYTHON) tests/matrix.py

test: check  ## all checks and all tests
	$(BIN)/python -m pytest -n 3 --dist loadfile

simulate: $(VENV)/test.stamp  ## make simulate SEEDS=300 [FIRST=1]
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

soak: $(VENV)/test.stamp  ## make soak HOURS=8: fresh seeds and kills, at least 10,000 and 1,000 an hour
	$(BIN)/python -m tests.soak $(HOURS)

clean:
	rm -rf $(VENV) build dist src/*.egg-info
