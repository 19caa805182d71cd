# make            what there is
# make demo       set everything up and run the main job (three minutes after that)
# make test       set everything up and run the tests

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP_ARGS ?=

.PHONY: help setup demo test test-slow check format docs notebook constraints release clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(STAMP)  ## virtual environment with everything that tests and demo need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "clipcurate needs Python 3.11 or newer: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet $(PIP_ARGS) -c constraints.txt -e '.[towers,cluster,local-llm,dev]'
	# open_clip's pipeline wants webdataset 0.2; our shards are tested with 1.x as well, from a folder of its own
	$(BIN)/pip install --disable-pip-version-check --quiet $(PIP_ARGS) --no-deps --upgrade --target $(VENV)/webdataset-1 'webdataset==1.0.2'
	touch $(STAMP)

demo: setup      ## the main job, end to end, on generated scenes: three minutes on two quiet cores
	test ! -e demo/diff.html || rm -rf demo  # one that has run; an interrupted one goes on
	$(BIN)/clipcurate demo --out demo

test: setup      ## all tests but the slow ones
	$(BIN)/pytest -m "not slow"

test-slow: setup ## the tests that take long
	$(BIN)/pytest -m slow

check: setup     ## lint, types, imports, docs in step
	$(BIN)/ruff check .
	$(BIN)/oxlint --quiet --deny-warnings -D correctness -D suspicious -A unicorn/consistent-function-scoping -A unicorn/no-array-sort flows/pages flows/window
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 0 tests/test_house.py tests/test_docs.py -k 'not commands_run'

docs: setup      ## regenerate tables and references in the READMEs and docs/
	$(BIN)/python -m tests.generated_docs

notebook: setup  ## run docs/python.ipynb and keep what its cells print now
	$(BIN)/python -m tests.notebook

constraints: setup ## write down the versions installed now
	{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//'; } > constraints.new && mv constraints.new constraints.txt

release: setup   ## dry run: wheel, source archive, bill of materials and licences in dist/ (FINAL=--final: as for the release)
	$(BIN)/python -m tests.release $(FINAL)

clean:           ## remove what demo and tests made (not the virtual environment)
	rm -rf demo workspace .pytest_cache .mypy_cache .ruff_cache
