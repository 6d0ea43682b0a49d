# The commands of this project. `make demo` and `make test` need only Python 3.11+ (with venv) and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell git ls-files src examples core bindings CMakeLists.txt pyproject.toml 2>/dev/null)

.PHONY: demo test lint format stubs fuzz asan tsan wheel clean
FUZZ := --seconds 600 --seed 0


demo: $(VENV)/.demo
	$(BIN)/windrow demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files '*.cpp' '*.hpp')
	$(BIN)/python tools/check_includes.py

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.hpp')

stubs: $(VENV)/.test
	$(BIN)/python tools/stubs.py

# Arbitrary calls against the reference; a failure prints the seed that repeats it.
fuzz: $(VENV)/.test
	$(BIN)/python tools/fuzz.py $(FUZZ)

# The tests and the fuzzer with every access to memory checked, and the tests of threads with every race.
asan: $(VENV)/.test
	$(BIN)/python tools/sanitized.py address,undefined -m pytest --capture=sys tests --deselect tests/test_import.py
	$(BIN)/python tools/sanitized.py address,undefined tools/fuzz.py --seconds 60

tsan: $(VENV)/.test
	$(BIN)/python tools/sanitized.py thread -m pytest --capture=sys tests/test_threads.py

wheel: $(VENV)/.python
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/python tools/check_wheel.py

clean:
	rm -rf $(VENV) build dist

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# An install is fresh while no source is newer than its stamp.
$(VENV)/.demo: $(VENV)/.python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[test]'
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet '.[lint]'
	@touch $@
