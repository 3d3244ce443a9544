# Everything happens in .venv; nothing is installed outside of this folder.
# Where pip looks for packages is its own business: set PIP_INDEX_URL and the like in the environment.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
GATEWAY ?= 127.0.0.1:8080
APP ?= apps.site:app
PYTEST_ARGS ?=
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve demo test check audit format compiled bench bench-record browser docs clean

help:
	@echo 'make serve     serve $(APP) over Trickles on UDP port 8000, for curl and browsers on http://$(GATEWAY)/'
	@echo 'make demo      a page with buttons that kill servers, beside uvicorn behind nginx, on http://127.0.0.1:8090/'
	@echo 'make test      run the tests'
	@echo 'make check     format, lint and types: ruff, mypy --strict'
	@echo 'make audit     known vulnerabilities of what is installed (pip-audit)'
	@echo 'make compiled  the hot modules as C extensions: about twice as fast (a C compiler is needed)'
	@echo 'make format    let ruff format the code and mend what it can'
	@echo 'make bench     instructions of the hot paths, beside the baseline; or beside BASE=REVISION'
	@echo 'make bench-record  make these the baseline'
	@echo 'make browser   a page, an upload and events in Chromium, while servers are killed, and the demonstration'
	@echo 'make docs      the documentation as a site, in site/'
	@echo 'make clean     remove .venv and all caches'

serve: $(VENV)/.installed-apps
	@exec $(BIN)/trickles-serve $(APP) --gateway $(GATEWAY)

demo: $(VENV)/.installed-demo
	@exec $(BIN)/python -m apps.demo

# loadgroup: tests marked with one xdist_group run one after the other.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(VENV)/.installed-dev
	@$(BIN)/python .ci/audit

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m loadtest.bench $(if $(BASE),--base $(BASE)) $(if $(ONLY),--only '$(ONLY)')

bench-record: $(VENV)/.installed-dev
	@$(BIN)/python -m loadtest.bench --record

browser: $(VENV)/.installed-browser
	@command -v chromium >/dev/null || { echo 'as root run: apt-get install chromium' >&2; exit 1; }
	@$(BIN)/python -m loadtest.browser
	@$(BIN)/python -m loadtest demo --quick

# A warning is an error. The variable silences an advertisement of the theme's.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# An extension is loaded in place of its module. Back to pure Python: make clean.
compiled: $(VENV)/.installed-apps
	TRICKLES_COMPILE=1 $(PIP_INSTALL) --no-deps --force-reinstall --editable .

clean:
	find . -name '*.so' -path './trickles_web*' -delete
	rm -rf $(VENV) .audit .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Finds a Python that is new enough, and makes the virtual environment unless a working one is there.
# Debian packs ensurepip apart from Python, so that a missing python3-venv shows only half-way through.
define make_venv
if ! { $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' && $(BIN)/python -m pip --version; } >/dev/null 2>&1; then \
	python=; seen=; \
	for candidate in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do \
		version=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		seen="$$seen $$candidate is $$version;"; \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "trickles-web needs Python 3.11 or newer;$${seen:- no python3 found;} name another with: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python cannot make virtual environments; as root run: apt-get install python3-venv" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$python $$version"; \
	$$python -m venv --clear $(VENV) || exit 1; \
fi
endef

# A stamp is as new as the installation that it stands for; what pyproject.toml asks for may have changed since.
$(VENV)/.installed-%: pyproject.toml
	@$(make_venv)
	@echo "installing trickles-web[$*] into $(VENV)"
	@$(PIP_INSTALL) --editable '.[$*]'
	@touch $@
