# Everything a checkout needs: each target sets up .venv by itself, with the first Python >= 3.11 found.
#   make demo    a network on this machine: publish, lose nodes, fetch, compare
#   make test    all tests
#   make check   formatting, lint, types; those of the web page too where npm is installed
#   make docs    the documentation as a site, in build/docs/index.html
#   make bench   Shoal beside Tahoe-LAFS and beside what this machine allows (benchmarks/), 20 minutes
#   make man     the man page, build/shoal.1
#   make clean   remove .venv and everything generated
# Another Python: make test PYTHON=/path/to/python3.13

SHELL := /bin/sh
VENV := .venv
RUN := $(VENV)/bin/python
PIP_INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTHON ?=
DEMO ?=
BENCH ?=
TESTS ?= tests

.PHONY: demo test check page-types format docs bench man clean

demo: $(VENV)/.runtime-installed
	$(VENV)/bin/shoal demo $(DEMO)

test: $(VENV)/.tests-installed
	$(RUN) -m pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

check: $(VENV)/.tests-installed
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests benchmarks examples
	@if command -v npm >/dev/null 2>&1; then $(MAKE) --no-print-directory page-types; \
	elif [ -n "$$CI" ]; then echo "npm is missing: the types of the web page cannot be checked." >&2; exit 1; \
	else echo "npm is not installed here, so the types of the web page are not checked."; fi

# The page is plain JavaScript with types in its comments. Only this check of them needs npm.
page-types: $(VENV)/.page-installed
	$(VENV)/page/node_modules/.bin/tsc --project doors/web

format: $(VENV)/.tests-installed
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# A warning is an error: a link that leads nowhere, a name that nothing documents.
docs: $(VENV)/.docs-installed
	$(VENV)/bin/sphinx-build -W --keep-going -n -q -j auto -c docs -d build/doctrees . build/docs
	@echo "The site is in build/docs/index.html"

# The long studies (growth.py, durability.py, lookup_quality.py) are not for every day: run them by hand.
bench: $(VENV)/.bench-installed
	$(RUN) benchmarks/compare.py $(BENCH)
	$(RUN) benchmarks/codec.py
	$(RUN) benchmarks/channel.py

man: $(VENV)/.runtime-installed
	@mkdir -p build
	$(RUN) -m shoal.cli.reference --man build/shoal.1
	@echo "Read it with: man ./build/shoal.1"

clean:
	rm -rf $(VENV) .bench build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find cli dht erasure node simulation src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are newer than what they were installed from: a changed pyproject.toml installs again, nothing else does.
$(VENV)/.runtime-installed: pyproject.toml constraints.txt | $(RUN)
	@echo "Installing Shoal and what it needs into $(VENV)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.tests-installed: pyproject.toml constraints.txt | $(RUN)
	@echo "Installing Shoal, what it needs and the test tools into $(VENV)"
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.runtime-installed

$(VENV)/.docs-installed: pyproject.toml constraints.txt | $(RUN)
	@echo "Installing Shoal and the tools of the documentation site into $(VENV)"
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.runtime-installed

$(VENV)/.bench-installed: pyproject.toml constraints.txt | $(RUN)
	@echo "Installing Shoal, with the fast erasure code, into $(VENV)"
	@$(PIP_INSTALL) --editable '.[fast]'
	@touch $@ $(VENV)/.runtime-installed

$(VENV)/.page-installed: doors/web/package.json doors/web/package-lock.json | $(RUN)
	@echo "Installing what checks the web page into $(VENV)/page"
	@mkdir -p $(VENV)/page
	@cp doors/web/package.json doors/web/package-lock.json $(VENV)/page
	@npm ci --prefix $(VENV)/page --no-audit --no-fund --loglevel=error
	@touch $@

# Running a candidate is the only sure test: a name on the PATH may be a wrapper for a Python that is not installed.
$(RUN):
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 python; do \
	  "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  if ! "$$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then incomplete="$$candidate"; continue; fi; \
	  echo "Making $(VENV) with $$("$$candidate" --version) ($$(command -v "$$candidate"))"; \
	  rm -rf $(VENV); "$$candidate" -m venv $(VENV) && exit 0; \
	  echo "Could not make $(VENV) with $$candidate." >&2; exit 1; \
	done; \
	if [ -n "$$incomplete" ]; then \
	  echo "$$incomplete lacks the venv module. On Debian or Ubuntu: apt install python3-venv" >&2; \
	else \
	  echo "Shoal needs Python 3.11 or newer, and none was found." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
	fi; exit 1
