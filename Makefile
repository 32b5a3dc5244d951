# A fresh machine needs Python 3.11, git, make and a package index; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE := tests/interop/node_modules/.ready
APART := .venv-schemathesis/.ready

.PHONY: help demo test fire tools serve check bench lock clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /	/' | expand -t 10

demo: $(READY) ## the main job with real processes: make demo [DIR=folder]
	@$(BIN)/python tests/demo.py $(if $(DIR),--dir "$(DIR)")

test: $(READY) $(NODE) $(APART) ## all tests
	@$(MAKE) -s tools
	$(BIN)/python -m pytest -n 2 --dist loadfile

fire: $(READY) $(APART) ## everything under fire, whole: an hour or more; goes on where it was stopped
	@$(MAKE) -s tools
	FIRE=full $(BIN)/python -m pytest -n 2 --dist load tests/fire

# What the tests run beside Python, from Debian's packages.
TOOLS := zstd sqlite3 openssl nginx chromium strace gcc systemd-analyze

tools:
	@PATH="$$PATH:/usr/sbin"; for tool in $(TOOLS); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	  [ -z "$$missing" ] || { echo "Installing$$missing; this is needed once." >&2; \
	  missing=$$(echo "$$missing" | sed "s,gcc,gcc libc6-dev,; s,systemd-analyze,systemd,"); \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; }

serve: $(READY) ## a server for real use: make serve DATA=folder
	@exec $(BIN)/afterword serve --data "$(or $(DATA),$(HOME)/afterword-server)"

check: $(READY) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## the figures, medians of several runs
	@$(MAKE) -s tools
	@$(BIN)/python -P -m bench

lock: $(READY) ## renew all lock files from pyproject.toml (needs uv)
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --no-annotate \
	  --extra server pyproject.toml -o requirements.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --no-annotate \
	  --extra server --group dev pyproject.toml -o requirements-dev.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --no-annotate \
	  --group pyproject.toml:build -c requirements-dev.lock -o requirements-build.lock
	uv pip compile --python-version 3.11 --universal --generate-hashes --no-header --no-annotate \
	  tests/schemathesis/requirements.in -o tests/schemathesis/requirements.lock

clean: ## everything that was set up here
	rm -rf $(VENV) tests/interop/node_modules .venv-schemathesis .fire

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Afterword needs Python 3.11 or newer; name one with PYTHON=…")'
	@echo "Setting up $(VENV) from requirements-dev.lock; this is needed once." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(NODE): tests/interop/package-lock.json
	@echo "Setting up tests/interop from its package-lock.json; this is needed once." >&2
	@command -v npm >/dev/null || { apt-get update -q && apt-get install -q -y nodejs npm; }
	@cd tests/interop && npm ci --silent --ignore-scripts --no-fund --no-audit
	@touch $@

$(APART): tests/schemathesis/requirements.lock
	@echo "Setting up .venv-schemathesis, which only tests/fire needs; this is needed once." >&2
	@$(PYTHON) -m venv .venv-schemathesis
	@.venv-schemathesis/bin/pip install -qq --disable-pip-version-check --require-hashes -r $<
	@touch $@
