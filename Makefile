# The commands of this project. `make demo` and `make test` need only Python 3.11+ (with venv) and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell git ls-files src examples core bindings CMakeLists.txt pyproject.toml 2>/dev/null)

.PHONY: demo test lint format stubs wheel clean

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

wheel: $(VENV)/.python
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

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
