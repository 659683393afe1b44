# make run    set up .venv and run the embedded sample (no files, no network beyond the package index)
# make test   set up .venv with the test packages and run every test
# make ui     the Dagster UI of the sample on 127.0.0.1:3000
# make lint   ruff over the whole tree, types of both packages
# make docs   the API reference (docs/api), sources.md and codebook.md
# make clean  remove results and caches (not .venv)

PYTHON    ?= python3
VENV      ?= .venv
WORKERS   ?= 2
PIP_ARGS  ?=
PROFILE   ?= sample
PORT      ?= 3000
BIN       := $(VENV)/bin
RUN_STAMP := $(VENV)/.geocal-run
TEST_STAMP := $(VENV)/.geocal-test
LOCKED    := pyproject.toml constraints.txt
COMPILED  := $(VENV)/.geocal-compiled
LOOPS     := $(shell grep -rl --include='*.py' -e numba.njit -e 'sampling.compiled import' calibration_core)

.PHONY: run test ui lint docs clean

run: $(RUN_STAMP) $(COMPILED)
	$(BIN)/geocal run --profile $(PROFILE)

test: $(TEST_STAMP) $(COMPILED)
	$(BIN)/python -m pytest -n $(WORKERS) -q
	@echo "All tests passed."

ui: $(RUN_STAMP) $(COMPILED)
	$(BIN)/geocal ui --profile $(PROFILE) --port $(PORT)

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(TEST_STAMP)
	$(BIN)/python docs/make_api.py
	$(BIN)/python docs/make_dictionary.py

clean:
	rm -rf output build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "geocal needs Python 3.11, 3.12 or 3.13, this is " + sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# Dagster is imported by every process it starts: where pip did not compile (or PYTHONDONTWRITEBYTECODE keeps Python from
# storing what it compiled) each start costs three times as much, so compile once.
define install
	$(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '$(1)'
	$(BIN)/python -m compileall -q pipeline calibration_core $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dagster || true
endef

$(RUN_STAMP): $(LOCKED) | $(BIN)/python
	$(call install,.)
	@touch $@

$(TEST_STAMP): $(LOCKED) | $(BIN)/python
	$(call install,.[test])
	@touch $(RUN_STAMP) $@

# The machine code lies beside the source files, for this processor and this version of them. Without
# this step the first run compiles, and says so; two test workers would compile the same loops twice.
$(COMPILED): $(LOOPS) | $(RUN_STAMP)
	@echo "Compiling the numerical loops for this processor, once: about half a minute that no run has to wait for"
	$(BIN)/geocal compile
	@touch $@
