# The two commands are `make reproduce` and `make test`; each makes its own .venv from uv.lock when it is missing.
PYTHON ?= python3
PROFILE ?= laptop
NB ?=
PY = .venv/bin/python
export UV_PROJECT_ENVIRONMENT = .venv
export TOKENIZERS_PARALLELISM = false
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help env test lint clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: .venv/ready ## make .venv from uv.lock

.venv/ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x build/uv/bin/uv || { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install -q uv==0.13.8; }
	build/uv/bin/uv sync --frozen --python $(PYTHON) --extra small
	@touch $@

test: env ## run the tests (CPU, no network)
	$(PY) -m pytest

lint: env ## check style
	$(PY) -m ruff check lib tests
	$(PY) -m ruff format --check lib tests

clean: ## remove what can be rebuilt (build/, caches), keep results
	rm -rf build .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
