# `make quickstart` and `make test` need only Python >= 3.11; everything else they install
# into $(VENV). uv is used where it is found, else pip.
PYTHON ?= python3
VENV ?= .venv
QUICKSTART ?= quickstart
BIN = $(VENV)/bin
SLEEPLM = $(BIN)/sleeplm

.PHONY: help setup quickstart test test-slow lint gpu-bench lock clean
.DELETE_ON_ERROR:

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is absent or older than 3.11; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@if command -v uv >/dev/null; then uv venv --quiet --seed --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
	  else $(PYTHON) -m venv $(VENV); fi

# $(call install,WHAT): uv reads no pip configuration, so where it cannot reach a registry pip may.
define install
	@echo "installing $(1) into $(VENV)"
	@if ! command -v uv >/dev/null || ! VIRTUAL_ENV=$(CURDIR)/$(VENV) uv pip install --quiet -c requirements.lock -e "$(1)"; \
	  then $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e "$(1)"; fi
endef

$(VENV)/.ready: $(BIN)/python pyproject.toml requirements.lock
	$(call install,.)
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(call install,.[dev])
	@touch $@

setup: $(VENV)/.ready  ## the environment alone

quickstart: $(VENV)/.ready  ## simulate, prepare, train, evaluate and describe: the whole road
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash experiments/quickstart.sh $(QUICKSTART)

test: $(VENV)/.ready-dev  ## the default tests
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(PYTEST_ARGS)

test-slow: $(VENV)/.ready-dev  ## the slow tests
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev  ## ruff
	$(BIN)/ruff check .

# Needs JAX for CUDA and torch beside it, which no environment above has: name a Python with both.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu-bench:  ## all GPU figures, under 8 minutes: make gpu-bench GPU_PYTHON=PYTHON
	@PYTHONPATH="$(CURDIR):$$PYTHONPATH" $(GPU_PYTHON) experiments/benchmarks/gpu_bench.py $(GPU_BENCH_ARGS)

lock:  ## resolve requirements.lock anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
	  --all-extras --no-emit-package sleeplm-jax pyproject.toml -o requirements.lock

clean:  ## remove the environment and the quickstart's results
	rm -rf $(VENV) $(QUICKSTART)
