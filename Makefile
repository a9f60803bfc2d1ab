# One command for each gate. The first one makes the virtual environment; the next ones find it ready.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: venv demo test bench lint types clean

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || scripts/make_venv.sh $(PYTHON)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## 2,000 flights through the embedded default; BROKER=1: through RabbitMQ and Redis
	$(BIN)/python scripts/demo.py $(if $(BROKER),--broker)

test: $(READY)  ## ARGS="-k name" is handed to pytest
	scripts/install_servers.sh
	$(BIN)/python -m pytest $(ARGS)

bench: $(READY)  ## CASE=amqp or CASE=amqp,redis; ARGS="--rounds 5"
	scripts/install_servers.sh
	@$(BIN)/python -c 'import aio_pika, celery, dramatiq, faststream, matplotlib' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	PYTHONPATH=scripts $(BIN)/python -m bench $(CASE) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
