# One command for each gate. The first one makes the virtual environment; the next ones find it ready.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Test processes: tests wait more than they compute, so that two cores do with three.
WORKERS ?= 3
# How long a soak takes, about.
MINUTES ?= $(if $(filter steady,$(CASE)),30,40)
# How long shop-demo sends requests.
SECONDS ?= 60
# Without bytecode on disk each test process rewrites the assertions of all tests, which takes it eight seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv demo shop-demo unit test soak mutants coverage matrix newest dist bench lint types clean

help:  ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

venv: $(READY)  ## the virtual environment, with everything that the gates need

$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || scripts/make_venv.sh $(PYTHON)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## 2,000 flights through the embedded default; BROKER=1: RabbitMQ and Redis; CHAOS=1: killed on the way
	$(BIN)/python scripts/demo.py $(if $(BROKER),--broker) $(if $(CHAOS),--chaos)

shop-demo: $(READY)  ## a minute of traffic for examples/shop, with its page of analytics; SECONDS=60
	cd examples && ../$(BIN)/python -m shop.demo --seconds $(SECONDS)

unit: $(READY)  ## the tests that need no server, in seconds; ARGS="-k name"
	$(BIN)/python -m pytest tests/unit $(ARGS)

test: $(READY)  ## all tests, in parallel; WORKERS=0: in one process; ARGS="-k name" is handed to pytest
	scripts/install_servers.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

soak: $(READY)  ## break the outbox for MINUTES=40, and count; ARGS="--only faults"; CASE=steady: publish for 30
	scripts/install_servers.sh
	PYTHONPATH=scripts $(BIN)/python -m soak $(if $(CASE),--case $(CASE)) --minutes $(MINUTES) $(ARGS)

mutants: $(READY)  ## break the outbox in a copy, one way at a time: a test must turn red; ARGS='"without fsync"'
	scripts/install_servers.sh
	$(BIN)/python scripts/mutants.py $(ARGS)

coverage: $(READY)  ## all tests with coverage, which must not fall below the floor
	scripts/install_servers.sh
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered $(ARGS)

matrix:  ## unit and contract tests on every interpreter from 3.11 up, with pinned and with newest dependencies
	scripts/install_servers.sh
	WORKERS=$(WORKERS) scripts/matrix.sh

newest:  ## the unit tests with the newest dependencies
	scripts/matrix.sh --unit-only --newest $(PYTHON)

dist: $(READY)  ## the sdist and the wheel in dist/, built twice, checked, and installed on Python 3.11, 3.12 and 3.13
	@$(BIN)/python -c 'import twine' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dist]'
	interpreters=$$(scripts/interpreters.sh 3.11 3.12 3.13) && $(BIN)/python scripts/dist.py $$interpreters

bench: $(READY)  ## every case beside its peers; CASE=amqp,growth; BASE=REF; ARGS="--rounds 5"
	scripts/install_servers.sh
	@$(BIN)/python -c 'import aio_pika, celery, dramatiq, faststream, matplotlib' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	PYTHONPATH=scripts $(BIN)/python -m bench $(CASE) $(if $(BASE),--base $(BASE)) $(ARGS)

lint: $(READY)  ## ruff, spelling, and the words that our prose does without
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell rambla_py docs examples scripts README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md
	$(BIN)/python scripts/check_prose.py

types: $(READY)  ## mypy in strict mode
	$(BIN)/mypy

clean:  ## remove what these commands made
	rm -rf .venv .matrix build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
