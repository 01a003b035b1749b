# Two commands do everything: `make quickstart` and `make test`.
# Nothing outside this folder changes; a second run reuses .venv.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
MINUTES ?= 10

# Caches of every tool stay in the checkout.
export XDG_CACHE_HOME := $(CURDIR)/.cache
export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
# Programs of the tests are many and small: keep each one, of a few kB.
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
# Tests start many processes: what one has compiled, the others need not.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help quickstart install test test-all docs fuzz style lint format clean

help:
	@echo "make quickstart   install and run the main job (digits, about 2 minutes)"
	@echo "make test         install and run lint, types, doctests and tests"
	@echo "make test-all     the same with every slow test (an hour)"
	@echo "make docs         the site, in build/docs/html; warnings are errors"
	@echo "make fuzz         damaged inputs for every parser, MINUTES=10"
	@echo "make lint         ruff, mypy and banned words"
	@echo "make clean        remove .venv, .cache, runs and what was compiled"

# The compiled cipher is part of the installation.
$(VENV)/.run: pyproject.toml setup.py $(wildcard keyjax/aes/csrc/*.[ch])
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if v >= (3, 11) else f"KeyJAX needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Try: make PYTHON=python3.12")'
	@echo "Installing KeyJAX into $(VENV) (about 1 GB, a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable ".[experiments]"
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

install: $(VENV)/.run

quickstart: $(VENV)/.run
	@$(BIN)/python -m experiments.main --config=configs/quickstart.py \
	  --workdir=$(WORKDIR)

style: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/python .ci/english.py

lint: style
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# A test checks the types.
test: style
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-all: style
	KEYJAX_TEST_ALL=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not tpu_aot" $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python docs/build.py build/docs -q

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(ARGS)

clean:
	rm -rf $(VENV) .cache build runs keyjax/aes/csrc/*.so
