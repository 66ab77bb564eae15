# Every target sets up what it needs; a second run finds it done. `make` alone shows the list.
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK := requirements/run.txt requirements/build.txt
ARGS ?=
export N TEXT

RUN_READY := $(VENV)/.run-ready
DEV_READY := $(VENV)/.dev-ready
FUZZ := $(VENV)/fuzz
FUZZ_READY := $(VENV)/.fuzz-ready
DOCS_READY := $(VENV)/.docs-ready
PACKAGE_READY := $(VENV)/.package-ready
# Of the commit, so that two builds of it are equal; without git, of the changelog.
EPOCH = $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
REVISION = $(shell git rev-parse HEAD 2>/dev/null)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/agentcom/__init__.py)
# Tests wait a third of their time, so three workers keep two cores busy.
WORKERS ?= 3
TESTS = $(BIN)/pytest -n $(WORKERS) --dist loadgroup

.PHONY: help setup run demo fix check test test-all journeys chaos simulate mutants crash soak bench bench-peers bench-agents matrix fuzz docs dist image change release lock sbom audit-deps clean clis

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

setup: $(DEV_READY) $(PACKAGE_READY) ## make .venv with the locked tools and this package

run: $(RUN_READY) $(PACKAGE_READY) ## start a hub on this machine (ARGS= goes to `agentcom hub run`)
	@$(BIN)/agentcom hub run $(ARGS)

demo: $(RUN_READY) $(PACKAGE_READY) ## hub, three agents, a real git repository, one agent killed on purpose
	@$(BIN)/agentcom demo $(ARGS)

fix: setup ## format, and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup ## the static gate: format, lint, imports, types, tidiness
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_tidy.py

test: clis ## every test but the slow ones (ARGS= goes to pytest)
	$(TESTS) -m "not slow" $(ARGS)

test-all: clis ## every test
	$(TESTS) $(ARGS)

journeys: setup ## play every journey, and write docs/journeys anew from what was printed
	$(TESTS) tests/journeys -m journey --publish $(ARGS)

chaos: setup ## break a running fleet on purpose and count what was lost
	$(BIN)/agentcom chaos $(ARGS)

simulate: setup ## break a fleet under virtual time, 1,000 simulated hours (ARGS="--seeds 286": the gate's part)
	@$(BIN)/agentcom simulate --seeds 1000 --hours 1 $(ARGS)

mutants: setup ## plant each known bug, and see that the simulation catches it
	@$(BIN)/agentcom simulate --mutants $(ARGS)

crash: setup ## break the disk under the store in every way (ARGS=--quick: some minutes of CPU)
	@$(BIN)/python -m agentcom.testing.crash $(ARGS)

soak: setup clis ## storms, slow readers, a day of traffic, an idle hour (ARGS=--quick: 4 min)
	@$(BIN)/python -m agentcom.testing.soak $(ARGS)

bench: setup ## measure what this project claims, on this machine (ARGS=--quick: 2 min)
	@$(BIN)/python -m bench $(ARGS)

bench-peers: setup ## the same job for this hub and six others, in turns (10 min; reports, never gates)
	@$(BIN)/python -m bench.peers $(ARGS)

bench-agents: setup ## 24 real agents at once on this machine (ARGS="--agents 8 --runtime pi")
	@$(BIN)/python -m bench.agents $(ARGS)

fuzz: setup $(FUZZ_READY) ## call every route with whatever its description allows, and forbids (1 min of CPU)
	@$(BIN)/python -m tests.fuzz $(FUZZ)/bin/schemathesis $(ARGS)

matrix: setup ## every driver through every check, into docs/reference/drivers.md (ARGS=pi: one of them)
	@$(BIN)/python -m tests.tools.matrix $(ARGS)

docs: setup $(DOCS_READY) ## build the documentation into site/; a broken link or a stale page fails
	$(BIN)/python -m docs.tools.generate --check
	$(BIN)/zensical build --clean --strict

dist: setup ## build wheel and sdist into dist/, the same bytes whenever and wherever
	rm -rf dist
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --no-isolation
	@cd dist && sha256sum *

image: ## build the container image (needs a Docker engine)
	docker build -f ops/docker/Dockerfile -t agentcom:$(VERSION) -t agentcom:dev \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE_DATE_EPOCH=$(EPOCH) .

change: setup ## add a changelog fragment: N=slug.fixed TEXT="what a user sees"
	@test -n "$$N" -a -n "$$TEXT" || { echo 'usage: make change N=slug.fixed TEXT="what a user sees"'; exit 2; }
	$(BIN)/towncrier create --content "$$TEXT" "$$N.md"

release: check test-all ## build the changelog and the distributions; then commit, tag, publish
	$(BIN)/towncrier build --yes
	$(MAKE) dist

lock: setup ## write requirements/*.txt anew from pyproject.toml and requirements/*.in
	$(BIN)/python requirements/lock.py $(ARGS)

sbom: setup ## write the bill of materials (CycloneDX) of what is shipped, the same bytes each time
	@mkdir -p build
	@$(BIN)/python requirements/supply.py sbom > build/agentcom.cdx.json
	@echo build/agentcom.cdx.json

audit-deps: setup ## look at licences and known advisories of all that is locked
	@$(BIN)/python requirements/supply.py check

clean: ## remove all that was made here
	rm -rf $(VENV) .agent-clis build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . "(" -name __pycache__ -o -name .ruff_cache ")" -type d -prune -exec rm -rf {} +

clis: setup ## install the agents' own programs for the tests that drive them (CLIS=all: every one, 4 GB)
	@if [ -f tests/tools/install_clis.py ]; then \
	  $(BIN)/python tests/tools/install_clis.py $(CLIS) || echo "agent programs are not complete: their tests will be skipped"; \
	fi

$(BIN)/python:
	@echo "Setting up in $(VENV) (once) ..."
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv $(VENV) && exit 0; \
	    rm -rf $(VENV); echo "error: $$python has no venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; \
	  fi; \
	done; \
	echo "error: AgentCom needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`" >&2; \
	echo "       install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1

$(RUN_READY): $(LOCK) | $(BIN)/python
	@echo "Installing what AgentCom runs on ..."
	@$(PIP) install --no-compile --require-hashes -r requirements/run.txt -r requirements/build.txt
	@touch $@

$(DEV_READY): requirements/dev.txt $(LOCK) | $(BIN)/python
	@echo "Installing the tools of the gate and the tests ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@ $(RUN_READY)

$(DOCS_READY): requirements/docs.txt | $(BIN)/python
	@echo "Installing the documentation builder ..."
	@$(PIP) install --require-hashes -r requirements/docs.txt
	@touch $@

$(FUZZ_READY): requirements/fuzz.txt | $(BIN)/python
	@echo "Installing the fuzzer of the HTTP interface, apart from all else ..."
	@$(BIN)/python -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check -qq install --require-hashes -r requirements/fuzz.txt
	@touch $@

$(PACKAGE_READY): pyproject.toml $(RUN_READY)
	@echo "Installing agentcom from this folder ..."
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
