# Everything here needs bash, git, make, Python >= 3.10 and a package index; uv is used if present.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo test e2e bench bench-large stress docs lock clean FORCE

AIRFLOWS := 3.3.2 3.1.8
BIN := .envs/dev/bin

help: ## list these targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1|\2/p' Makefile | \
	  while IFS='|' read -r target what; do printf '  make %-11s %s\n' "$$target" "$$what"; done

demo: .envs/dev .envs/airflow-3.3.2 ## diagnose and repair real failures of a real Airflow (KEEP=1 leaves it up)
	$(BIN)/python -m scripts.demo $(if $(KEEP),--keep)

test: .envs/dev .envs/pgbouncer ## lint, types, import contracts and every test that needs no Airflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2

e2e: .envs/dev .envs/chromium $(AIRFLOWS:%=.envs/airflow-%) ## the tests against real Airflows, and in a real browser
	AIOPS_E2E_VERSIONS="$(AIRFLOWS)" $(BIN)/pytest -m e2e -rs tests/e2e

bench: .envs/dev ## measure matching, models, a backtest, start-up, a storm and both stores with up to 100,000 entries
	$(BIN)/python -m bench.retrieval
	$(BIN)/python -m bench.models
	$(BIN)/python -m bench.stream --halves
	$(BIN)/python -m bench.backtest
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.storm
	$(BIN)/python -m bench.scale

bench-large: .envs/dev ## both stores with a million entries: hours, and 30 GB of disk
	$(BIN)/python -m bench.scale 1000000

stress: .envs/dev ## eight processes killed and stopped at any moment, and a watch's day: nothing twice, nothing lost
	$(BIN)/python -m scripts.stress
	$(BIN)/python -m scripts.soak

docs: .envs/dev ## write the generated parts of docs/ anew
	$(BIN)/python -m scripts.reference
	$(BIN)/python -m scripts.config_schema
	$(BIN)/python -m scripts.picture

# The drivers are those of the Postgres in which the end-to-end tests keep Airflow's own data.
lock: ## resolve requirements/ anew (needs uv)
	uv pip compile -q --universal --python-version 3.10 --no-header --no-annotate --upgrade \
	  pyproject.toml --group dev -o requirements/dev.txt
	for version in $(AIRFLOWS); do \
	  uv pip compile -q --universal --python-version 3.10 --no-header --no-annotate --upgrade \
	    - -o requirements/airflow-$$version.txt \
	    <<<"apache-airflow==$$version"$$'\n'psycopg2-binary$$'\n'asyncpg || exit; \
	done

clean: ## remove environments, builds and caches
	rm -rf .envs .demo .e2e build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.envs/pgbouncer: FORCE
	@scripts/pgbouncer.sh

.envs/chromium: FORCE
	@scripts/chromium.sh

.envs/%: FORCE
	@scripts/env.sh $*
