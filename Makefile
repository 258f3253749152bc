# One command each on a fresh machine with Python and make: `make demo`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo test test-fast lint format bench clean

help:
	@echo "make setup      install posekit and its tools into $(VENV)"
	@echo "make demo       run every stage on synthetic data; pictures and summary.json in demo/"
	@echo "make test       run the whole test suite"
	@echo "make test-fast  run the suite without its slow tests"
	@echo "make lint       check formatting, lint and types"
	@echo "make bench      run the benchmarks; results in benchmarks/results/"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip check
	touch $@

demo: setup
	$(BIN)/posekit demo --output demo

test: setup
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-fast: setup
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow"

lint: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: setup
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
