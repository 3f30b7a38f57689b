SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Without byte code each of our processes takes about twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
INSTALLED := .venv/.installed
PYTEST_ARGS ?=

.PHONY: help install demo test test-slow test-cluster test-sky check nightly conformance bench pictures lock clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

install: $(INSTALLED)  ## Build .venv from the lock file.

$(INSTALLED): requirements.lock pyproject.toml scripts/install
	@scripts/install
	@touch $@

demo: $(INSTALLED)  ## Train a tiny model offline, submitted by a real MCP client.
	@$(BIN)/python examples/demo.py

test: $(INSTALLED)  ## Install the tests' tools and run the default suite.
	@scripts/provision
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-slow: $(INSTALLED)  ## Run the slow tests, which the default suite leaves out (about 5 minutes).
	@scripts/provision
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m slow $(PYTEST_ARGS)

test-cluster: $(INSTALLED)  ## Test the launcher on a real Slurm cluster.
	@scripts/provision-cluster
	@$(BIN)/python -m pytest -m "cluster and not nightly and not sky" -rs $(PYTEST_ARGS)

test-sky: $(INSTALLED)  ## Test the launcher on SkyPilot, with a real API server (slow).
	@scripts/provision-cluster
	@$(BIN)/python -m pytest -m "sky and not nightly" -rs --timeout=900 $(PYTEST_ARGS)

check: $(INSTALLED)  ## Check lint, format, types and import contracts.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/pyright -p tests
	$(BIN)/lint-imports --no-logo

nightly: $(INSTALLED)  ## Run the long fault-injection rounds.
	@scripts/provision
	@scripts/provision-cluster
	@$(BIN)/python -m pytest -m "nightly and not sky" -s --timeout=7200 $(PYTEST_ARGS)

conformance: $(INSTALLED)  ## Run the MCP conformance suite and the Inspector's lint.
	@scripts/provision
	@$(BIN)/python -m pytest tests/interop/test_conformance.py -m slow -v -rs $(PYTEST_ARGS)

bench: $(INSTALLED)  ## Measure the numbers of docs/benchmarks.md.
	@$(BIN)/python -m benchmarks --page docs/benchmarks.md

pictures: $(INSTALLED)  ## Take the pictures of the README, with a real job and a browser.
	@$(BIN)/python scripts/pictures.py

lock:  ## Resolve pyproject.toml into requirements.lock, with the hashes of every file.
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	  --upgrade \
	  --quiet -o requirements.lock

clean:  ## Remove what the other targets created here.
	@rm -rf .venv .cache .demo dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
