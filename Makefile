# make book    run what needs running and render the book: build/html/index.html
# make pdf     the same, printed into build/html/vitlab.pdf too; needs Chromium or Chrome
# make test    the test suite
# make check   ruff and mypy
# make zoo     train the mini zoo again from nothing (resumable; hours on a CPU)
# make bench   measure the promised numbers: build/bench.json
# make notebooks  write notebooks/*.ipynb, for Colab, from notebooks/*.md
# make clean   remove the rendered site; make full-clean removes all results and the venv
SHELL := /bin/bash
# What is imported again and again is compiled once, also where a container image forbids it.
export PYTHONDONTWRITEBYTECODE :=
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: venv book pdf test check zoo bench notebooks clean full-clean

PYTHON ?= python3
PROFILE ?= mini
VENV := .venv
BIN := $(VENV)/bin
# What the venv was made for, by content: a file that was only touched, by a checkout or a clock, sets
# up nothing again. Its scripts hold the checkout's path and Python, so one that was moved is made anew;
# a changed lock file is installed into the venv that is there, which a missing network leaves whole.
HERE := $(shell { pwd; $(PYTHON) -V; } 2>&1 | cksum | tr ' ' -)
NEEDS := $(shell cat requirements.lock pyproject.toml | cksum | tr ' ' -)
STAMP := $(VENV)/.ready-$(HERE)-$(NEEDS)

venv: $(STAMP)

book: $(STAMP)
	$(BIN)/vitlab build --profile $(PROFILE)

pdf: $(STAMP)
	$(BIN)/vitlab build --profile $(PROFILE) --pdf

# A process per core, a thread per process: threads that wait for each other's cores crawl. A file's
# tests stay together, for what they share.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check vitlab tests tools
	$(BIN)/ruff format --check vitlab tests tools
	$(BIN)/mypy

zoo: $(STAMP)
	$(BIN)/vitlab zoo

bench: $(STAMP)
	$(BIN)/python tools/bench.py

notebooks: $(STAMP)
	$(BIN)/vitlab notebooks

# uv installs three times as fast as pip; where it is not there, the venv gets one of its own, and where
# that fails pip does it. PIP_FIND_LINKS, which pip reads by itself, is handed on to uv.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed, $(PYTHON) is `$(PYTHON) --version`; try make PYTHON=python3.11"; exit 1; }
	@echo "setting up $(VENV) (once, a minute or two)"
	@ls $(VENV)/.ready-$(HERE)-* >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@uv=`command -v uv || { $(BIN)/python -m pip install -qq --disable-pip-version-check uv && echo $(BIN)/uv; } || true`; \
	if [ -n "$$uv" ]; then \
	  "$$uv" pip install --quiet --python $(BIN)/python $${PIP_FIND_LINKS:+--find-links "$$PIP_FIND_LINKS"} -r requirements.lock; \
	  "$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable .; \
	else \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock; \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .; \
	fi
	@rm -f $(VENV)/.ready*; touch $@

clean:
	rm -rf build/html build/_build build/src build/site.json

full-clean:
	rm -rf build $(VENV)
