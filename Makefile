# xinference-slo: `make help` lists what can be done here.
SHELL := /bin/bash
PY := .venv/bin/python
SLO := .venv/bin/slo
# Many tests wait more than they compute, so three processes share two cores. Files go to a process whole; those that
# share a server go to the same one (tests/conftest.py).
PYTEST := $(PY) -m pytest -p no:cacheprovider -q -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# Extra options: make launch ARGS="--stock --port 9998"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install launch stop restart status doctor baseline bench capacity stress dashboard report check watch
.PHONY: test test-fast test-busy test-quiet faults fuzz lint format reference lock clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F '\t' '{printf "  make %-11s %s\n", $$1, $$2}'

install: ## Create .venv and install the locked dependencies
	@bash scripts/install.sh

launch: install ## Start Xinference on port 9997, launch gte-base-zh, prove that it works
	@$(PY) launch_model_server.py $(ARGS)

stop: install ## Stop what `make launch` started
	@$(PY) launch_model_server.py --stop $(ARGS)

restart: install ## Start the server anew, with the settings and the code of now
	@$(PY) launch_model_server.py --restart $(ARGS)

status: install ## Say what is running
	@$(PY) launch_model_server.py --status $(ARGS)

doctor: install ## Check this machine: versions, CPU features, memory, disk, port
	@$(SLO) doctor $(ARGS)

baseline: install ## Measure P50/P95/P99 of short, medium and long texts against the objective
	@$(SLO) baseline $(ARGS)

check: install ## One P95 check; exit code 0 met, 1 missed, 3 unproven
	@$(SLO) check $(ARGS)

bench: install ## Stock Xinference against ours on this machine: an hour, leave it alone
	@$(PY) scripts/bench.py $(ARGS)

capacity: install ## Highest request rate that meets the objective, searched and proven
	@$(SLO) capacity $(ARGS)

stress: install ## 50 closed-loop clients for 24 hours: make stress ARGS="--duration 10m"
	@$(SLO) stress $(ARGS)

dashboard: install ## The live figures in the terminal; the page is at http://127.0.0.1:9997/slo/
	@$(SLO) top $(ARGS)

report: install ## An offline HTML report of the last run: report.html
	@$(SLO) report $(ARGS)

watch: install ## Check P95 every minute until stopped
	@$(SLO) watch $(ARGS)

# Images often set it; each of the many processes that tests start would then compile all modules again.
test test-fast test-busy test-quiet: export PYTHONDONTWRITEBYTECODE =

test: ## Run lint, types and all tests, as CI does
	@bash scripts/install.sh dev
	@bash scripts/install-test-tools.sh
	@bash scripts/lint.sh
	@$(PYTEST) -m "not quiet" --durations=5 $(ARGS)

test-fast: ## Run all tests but those that start a real Xinference, and those of `make test-quiet`
	@bash scripts/install.sh dev
	@$(PYTEST) -m "not server and not quiet" $(ARGS)
	@echo "left out: tests that start a real Xinference (server, full), and timed ones (quiet) → make test, make test-quiet"

test-busy: ## Run `make test` beside a busy loop on each core: it must pass there as well
	@bash scripts/beside_load.sh $(MAKE) --no-print-directory test

test-quiet: ## Run the tests that compare times, on a machine where nothing else runs
	@bash scripts/install.sh dev
	@$(PY) -m pytest -p no:cacheprovider -q -m quiet $(ARGS)

lint: ## Check style and types
	@bash scripts/install.sh dev
	@bash scripts/lint.sh

format: ## Format the code
	@bash scripts/install.sh dev
	@.venv/bin/ruff check --fix-only --quiet . && .venv/bin/ruff format .

faults: ## Break a real server and watch in every known way; writes docs/reliability.md
	@bash scripts/install.sh
	@$(PY) -m scripts.faults $(ARGS)

fuzz: ## Odd requests and hostile connections to a real server: no 5xx, no hang, no growing memory
	@bash scripts/install.sh dev
	@$(PY) -m scripts.fuzz $(ARGS)

reference: ## Write docs/reference/ anew, from the code
	@bash scripts/install.sh dev
	@$(PY) scripts/reference.py

lock: ## Compile the lock files again after a change in pyproject.toml
	@bash scripts/lock.sh

clean: ## Stop the server and remove the state directory, caches and build products; keeps .venv
	@[ ! -x $(PY) ] || $(PY) launch_model_server.py --stop
	@[ ! -x $(PY) ] || $(PY) -m scripts.clean
	rm -rf .slo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist model_server.log*
	find slo tests scripts -name __pycache__ -prune -exec rm -rf {} +
