# What can be done with this tree: `make help`.

VENV := .venv
BIN := $(VENV)/bin
BUILD := pyproject.toml setup.py protos/backline/v1/backline.proto server/backline/__init__.py
SYSTEM_PACKAGES := libportaudio2 libsndfile1 libfluidsynth3 fluid-soundfont-gm
# A folder of real recordings beside the clone, if there is one; tests on real audio skip without it.
RECORDINGS := $(abspath $(wildcard ../shared/audio))
export OMP_NUM_THREADS := 1

.PHONY: help demo test test-fast lint system clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## Hear it: stream the bundled song through a server, leave audio and a plot in demo/
	$(BIN)/backline demo

test: $(VENV)/.test ## Every test
	BACKLINE_AUDIO=$(RECORDINGS) $(BIN)/pytest

test-fast: $(VENV)/.test ## Every test that takes less than a few seconds
	BACKLINE_AUDIO=$(RECORDINGS) $(BIN)/pytest -m "not slow"

lint: $(VENV)/.test ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

system: ## The system libraries that live audio and training need
	@missing=$$(for package in $(SYSTEM_PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done | xargs); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	else echo "Not installed, and tests that need it will skip: $$missing (Debian: sudo apt install $$missing)"; fi

clean: ## Forget the virtual environment, compiled kernels and what was built
	rm -rf $(VENV) build demo
	find server -name '*.nb[ci]' -delete

# Stamps: each installation happens once, and again when what it is made from changes.
$(VENV)/.torch:
	@python=$$(for name in python3.11 /usr/bin/python3.11 python3.12 /usr/bin/python3.12; do \
	    $$name -c 'import ensurepip, venv' 2>/dev/null && echo $$name && break; done); \
	if [ -z "$$python" ]; then \
	    echo "Backline needs Python 3.11 or 3.12 with venv (Debian: sudo apt install python3.11-venv)"; exit 1; fi; \
	$$python -m venv $(VENV)
	$(BIN)/pip install -q torch==2.13.0
	@touch $@

$(VENV)/.demo: $(VENV)/.torch $(BUILD)
	$(BIN)/pip install -q -e ".[demo]"
	@touch $@

$(VENV)/.test: $(VENV)/.torch $(BUILD) | system
	$(BIN)/pip install -q -e ".[dev,demo]"
	@touch $@ $(VENV)/.demo
