# Needs Python 3.11, make and (for a clone) git; `make up` needs Docker with Compose v2. `make help` lists the targets.
# Everything is installed into .venv, from the lock files, with their checksums; nothing outside this folder is changed.

AIDERM_PORT ?= 8000
PYTHON ?=
UV_VERSION := 0.13.9

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input
INSTALLING := $(VENV)/.installing

# Stamps are named after what they were installed from (and where: a moved environment does not work), so a change reinstalls and nothing else does.
RUN_INPUTS := services/api/requirements.lock services/core/pyproject.toml services/api/pyproject.toml
DEV_INPUTS := tests/requirements.lock services/core/pyproject.toml services/compute/pyproject.toml services/api/pyproject.toml services/trainer/pyproject.toml services/scorer/pyproject.toml
RUN_STAMP := $(VENV)/.run-$(shell { pwd; cat $(RUN_INPUTS); } | cksum | tr ' ' -)
DEV_STAMP := $(VENV)/.dev-$(shell { pwd; cat $(DEV_INPUTS); } | cksum | tr ' ' -)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test check lint lint-python lint-page format screenshots figures benchmark-training benchmark-serving clients wheel soak lock up down rollout rollback stack backup restore sbom audit clean

help: ## list the targets
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-20s %s\n' "$$target" "$$text"; done

run: $(RUN_STAMP) ## serve page and API on http://127.0.0.1:8000 (AIDERM_PORT=… for another port); Ctrl-C stops it
	@trap : INT TERM; AIDERM_PORT=$(AIDERM_PORT) AIDERM_FRONTEND_DIR=frontend/public $(PY) -m aiderm_api || { code=$$?; [ $$code -ge 128 ] || exit $$code; }

# As many processes as processors, at most four: each takes up to 2 GB. A module's tests stay together, since they share what is costly.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ "$$n" -le 4 ] && echo "$$n" || echo 4)
test: $(DEV_STAMP) ## the tests that need neither root nor Docker (T=PATH for some of them; browser tests skip where Chromium is missing)
	@$(PY) -m pytest -m "not (containers or ci or alone or soak)" $(if $(T),$(T),-n $(WORKERS) --dist loadfile --no-loadscope-reorder) $(PYTEST_ARGS)

# Unit tests that need no TensorFlow; conftest.py makes its import fail, so that the list stays true.
CHECK_TESTS := tests/test_architecture.py tests/graphs tests/core/bundle tests/core/quality tests/core/test_decision.py tests/core/test_tta.py tests/api/auth tests/api/errors \
	tests/api/telemetry tests/trainer/data tests/trainer/evaluation --ignore tests/trainer/evaluation/test_learning_curve.py
check: $(DEV_STAMP) ## lint and types, and beside them the quick unit tests, without TensorFlow: under a minute on two cores
	@logs=$$(mktemp -d); \
	$(MAKE) --no-print-directory lint-python >"$$logs/python" 2>&1 & python=$$!; \
	$(MAKE) --no-print-directory lint-page >"$$logs/page" 2>&1 & page=$$!; \
	AIDERM_NO_TENSORFLOW=1 $(PY) -m pytest -q -p no:schemathesis -m "not (browser or containers or ci or alone or soak or slow or server)" $(CHECK_TESTS); tests=$$?; \
	wait $$python; python=$$?; wait $$page; page=$$?; cat "$$logs"/*; rm -rf "$$logs"; [ "$$tests $$python $$page" = "0 0 0" ]

lint: lint-python lint-page ## ruff (rules and format) and mypy; TypeScript, ESLint and Prettier over the page's JavaScript (needs Node.js)

lint-python: $(DEV_STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

lint-page:
	@$(call frontend,lint)

format: $(DEV_STAMP) ## let ruff and Prettier fix and format the code
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .
	@$(call frontend,format)

# $(call frontend,SCRIPT): one of the scripts in frontend/package.json, with the tools of its lock.
define frontend
if ! command -v npm >/dev/null; then \
	echo "The page's JavaScript was left out: npm is missing. Install Node.js 18.18 or newer with npm (Debian: apt-get install nodejs npm)."; \
else \
	cd frontend && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --ignore-scripts --no-audit --no-fund; } && npm run --silent $(1); \
fi
endef

screenshots: $(DEV_STAMP) ## draw the page's sample pictures for the served model, and take the README's screenshots anew (needs Chromium)
	@$(PY) frontend/tools/choose_samples.py
	@AIDERM_SCREENSHOTS=1 $(PY) -m pytest -m browser -k screenshot

figures: $(DEV_STAMP) ## put the figures of the served model into README.md
	@$(PY) -m docs.figures

benchmark-training: $(DEV_STAMP) ## training throughput against plain Keras, as a ratio (some minutes)
	@$(PY) -m benchmarks.training.throughput

benchmark-serving: $(DEV_STAMP) ## this API against the physical limit and its peers, as ratios (about 50 minutes; BENCH_ARGS=--quick: 10)
	@$(PY) -m benchmarks.serving $(BENCH_ARGS)

clients: $(DEV_STAMP) ## generate the clients' OpenAPI document and types anew, after a change of the API (needs Node)
	@$(PY) clients/generate.py

wheel: $(DEV_STAMP) ## build dist/aiderm-0.2-py3-none-any.whl: API, page and model, for pip install (docs/doors.md)
	@$(PY) deploy/wheel.py

soak: $(DEV_STAMP) ## the long tests: some hours (T=PATH for some of them; CONTRIBUTING.md says what shortens them)
	@$(PY) -m pytest -m soak $(T) $(PYTEST_ARGS)

up: ## build and start nginx and API in containers, on http://127.0.0.1:8080 (AIDERM_HTTP_PORT=… for another port)
	@AIDERM_REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) docker compose up --build --detach --wait
	@echo "AI Dermatologist: http://$$(docker compose port frontend 8080)"

down: ## stop the containers
	@docker compose --profile '*' down

rollout: ## build the API anew and put it in place without losing a request; goes back by itself if it does not become healthy
	@deploy/rollout.sh

rollback: ## put the API's image back that the last rollout replaced
	@deploy/rollout.sh rollback

stack: ## deploy on a Docker Swarm (docs/swarm.md; STACK_ARGS=… goes to docker stack deploy)
	@deploy/swarm/stack.sh deploy $(STACK_ARGS)

# The user who calls make owns the models and the backups; what is there is the newest image of the API.
MODELS_COMMAND = mkdir -p "$${AIDERM_BACKUPS:-backups}" && AIDERM_UID=$$(id -u) AIDERM_GID=$$(id -g) docker compose run --rm --no-TTY models
backup: ## save models/ into backups/, with every checksum verified (NAME=… for the file)
	@$(MODELS_COMMAND) save $(NAME)

restore: ## put back what is missing or damaged in models/ (NAME=… of the file in backups/); the API takes it over by itself
	@[ -n "$(NAME)" ] || { echo "Which backup? make restore NAME=… ; there are: $$(ls "$${AIDERM_BACKUPS:-backups}" 2>/dev/null | tr '\n' ' ')" >&2; exit 2; }
	@$(MODELS_COMMAND) restore $(NAME)

sbom: ## write sbom/: CycloneDX and licences of each image (builds the images first)
	@$(find_python); PYTHON="$$python" deploy/sbom/sbom.sh

audit: ## look for known advisories against the locked packages (says so where their data cannot be reached)
	@$(find_python); PYTHON="$$python" deploy/audit/audit.sh

# The largest set is resolved first; the services' locks are subsets of it with the same versions. Versions stay unless UPGRADE=1.
# openvino-telemetry is left out: `import openvino` would report to an analytics service through it, and works without it.
LOCK = .cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-package aiderm-core --no-emit-package aiderm-compute --no-emit-package openvino-telemetry \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)
lock: .cache/uv/bin/uv ## regenerate the lock files from the services' pyproject.toml and tests/requirements.in (UPGRADE=1: newest versions)
	@$(LOCK) --extra cluster --extra s3 --extra lite --extra dicom services/core/pyproject.toml services/compute/pyproject.toml services/api/pyproject.toml services/trainer/pyproject.toml services/scorer/pyproject.toml tests/requirements.in -o tests/requirements.lock
	@echo setuptools | $(LOCK) --extra dicom -c tests/requirements.lock - services/core/pyproject.toml services/api/pyproject.toml -o services/api/requirements.lock
	@echo setuptools | $(LOCK) --extra cluster --extra lite -c tests/requirements.lock - services/core/pyproject.toml services/compute/pyproject.toml services/trainer/pyproject.toml -o services/trainer/requirements.lock
	@echo setuptools | $(LOCK) --extra cluster --extra s3 -c tests/requirements.lock - services/core/pyproject.toml services/compute/pyproject.toml services/scorer/pyproject.toml -o services/scorer/requirements.lock
	@$(LOCK) benchmarks/serving/requirements.in -o benchmarks/serving/requirements.lock
	@$(LOCK) deploy/sbom/requirements.in -o deploy/sbom/requirements.lock
	@$(LOCK) deploy/audit/requirements.in -o deploy/audit/requirements.lock

clean: ## remove the environment and everything that tools left
	@rm -rf frontend/node_modules clients/typescript/node_modules clients/typescript/dist $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis services/*/src/*.egg-info services/*/build
	@find services tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(RUN_STAMP):
	$(call install,services/api/requirements.lock,services/core services/api,$(VENV)/.run-*)

$(DEV_STAMP):
	$(call install,tests/requirements.lock,services/core services/compute services/api services/trainer services/scorer,$(VENV)/.dev-*)

# $(call install,LOCK,PACKAGES,OLD STAMPS). The marker stays behind when an install breaks off, and the next one then starts afresh.
# Two that begin at once, as `make run` and `make test` may, take turns where there is flock: the second would delete what the first makes.
# --no-deps: a lock is complete, and what it leaves out (see LOCK) is left out on purpose.
define install
	@mkdir -p .cache; exec 9>.cache/installing.lock; ! command -v flock >/dev/null || flock 9; \
	[ -e $@ ] || { set -e; \
	$(ensure_venv); \
	echo "Installing from $(1) into $(VENV) (a minute or two, once; needs the network)"; \
	touch $(INSTALLING); \
	$(PIP) install --quiet --only-binary :all: --no-deps --require-hashes -r $(1); \
	$(PIP) install --quiet --no-deps --no-build-isolation $(patsubst %,-e ./%,$(2)); \
	rm -f $(3) $(INSTALLING); \
	touch $@; }
endef

# An environment that is there and whole is kept; one that is broken, half-made or of another Python is made anew.
define ensure_venv
$(IS_311); \
if [ -e $(INSTALLING) ] || ! is_311 $(PY) || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	$(find_python); \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "$$python cannot make environments: install its venv module (Debian: apt-get install python3.11-venv)." >&2; exit 1; }; \
fi
endef

# Sets the shell variable `python` to a Python 3.11, or ends with what to do.
define find_python
$(IS_311); python=; \
for candidate in $(PYTHON) python3.11 python3 python; do if is_311 "$$candidate"; then python=$$candidate; break; fi; done; \
if [ -z "$$python" ]; then \
	echo "Python 3.11 is needed and was not found: there is no python3.11, and python3 is $$(python3 --version 2>&1 || true)." >&2; \
	echo "Install it (Debian: apt-get install python3.11 python3.11-venv) or name it: make … PYTHON=/path/to/python3.11" >&2; exit 1; \
fi
endef
IS_311 := is_311() { "$$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

.cache/uv/bin/uv:
	@$(find_python); rm -rf .cache/uv && mkdir -p .cache && "$$python" -m venv .cache/uv
	@.cache/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
