# The commands of this project. `make demo` and `make test` need only Python 3.11+ (with venv) and a C++ compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell git ls-files src examples core bindings CMakeLists.txt pyproject.toml 2>/dev/null)

.PHONY: demo test lint format stubs docs environment fuzz seeded aarch64 asan tsan valgrind soak mutate wheel clean
FUZZ := --seconds 600 --seed 0
SEEDED := -- --cases 8000
# What the tests install: this folder, or a wheel of it.
INSTALL := .
SOAK := --seconds 3600

demo: $(VENV)/.demo
	$(BIN)/windrow demo

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

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

# The documentation site, in docs/_build/html; a warning is an error.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

# Arbitrary calls against the reference; a failure prints the seed that repeats it.
fuzz: $(VENV)/.test
	$(BIN)/python tools/fuzz.py $(FUZZ)

# The core without Python: kernels, packers, operations, refused allocations; natively and on an emulated aarch64.
seeded: $(VENV)/.build
	$(BIN)/python tools/seeded.py $(SEEDED)

aarch64: $(VENV)/.build
	$(BIN)/python tools/seeded.py --aarch64 -- --cases 300

# The tests and the fuzzer with every access to memory checked, and the tests of threads with every race. Generated
# examples take several times as long there: a test has fewer of them, and the fuzzer draws others. Aside is what
# computes in NumPy alone, reads pages and sources, runs programs, or drives other frameworks, and so comes to the core
# in no way of its own; operands of 8 GiB, of which a sanitizer would note every byte; and what weighs memory.
ASIDE := tests/gradcheck tests/reference $(wildcard tests/test_benchmarks*.py tests/test_doc*.py tests/test_error_*.py) \
    $(patsubst %,tests/test_%.py,autodiff check_includes deblur denoise drawing examples import kernel_objects large memory \
    notebook site stubs torch) $(patsubst %,tests/adapters/test_%.py,dask keras torch)
asan: export WINDROW_EXAMPLES ?= 15
asan: $(VENV)/.test
	$(BIN)/python tools/sanitized.py address,undefined -m pytest --numprocesses auto --dist worksteal --capture=sys \
	    tests $(ASIDE:%=--ignore=%)
	$(BIN)/python tools/sanitized.py address,undefined tools/fuzz.py --seconds 60

tsan: $(VENV)/.test
	$(BIN)/python tools/sanitized.py thread -m pytest --capture=sys tests/test_threads.py

# Memory that is used before it is set, which the sanitizers do not look for.
valgrind: $(VENV)/.test
	$(BIN)/python tools/memcheck.py tests/test_minimal.py

# Mixed calls whose memory must stay flat.
soak: $(VENV)/.test
	$(BIN)/python tools/soak.py $(SOAK)

# Lines of the core and of the package broken one at a time: the tests must notice each.
mutate: $(VENV)/.test
	$(BIN)/python tools/mutate.py

# The sdist, and from it the wheel, tested in an environment that has nothing else.
wheel: $(VENV)/.python
	$(BIN)/python tools/wheel.py

clean:
	rm -rf $(VENV) build dist

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# What an extra asks for, without windrow, which is there and would be built again.
EXTRA = $(BIN)/python -c 'import sys, tomllib; \
    print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]])'

# An install is fresh while no source is newer than its stamp.
$(VENV)/.demo: $(VENV)/.python $(SOURCES)
	$(BIN)/python -m pip install --quiet '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.python $(SOURCES)
	$(BIN)/python -m pip install --quiet '$(INSTALL)[test]'
	@touch $@

# What tests and lint stand on, without windrow: it can be fetched while the wheel is built.
environment: $(VENV)/.python
	$(BIN)/python -m pip install --quiet $$($(EXTRA) test) $$($(EXTRA) lint)

$(VENV)/.build: $(VENV)/.python
	$(BIN)/python -m pip install --quiet cmake ninja
	@touch $@

$(VENV)/.docs: $(VENV)/.test
	$(BIN)/python -m pip install --quiet $$($(EXTRA) docs)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet $$($(EXTRA) lint)
	@touch $@
