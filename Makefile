# `make` alone lists the targets. Each target sets up what it needs, in this folder.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

ARGS ?=
FUNCTION ?=
EVENT ?=

# Programs of the environments come first. A uv that set-up has installed comes last.
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.venv-sam/bin:$(PATH):$(CURDIR)/.uv/bin
export PYTHON
export SAM_CLI_TELEMETRY := 0
# Without bytecode each process that a test starts would compile the service anew.
unexport PYTHONDONTWRITEBYTECODE

# An environment is made again if this folder was moved or its Python is gone, because its scripts hold both paths.
$(shell for e in .venv .venv-sam .venv-checkov .venv-lowest .venv-mock-ai .venv-peer-*; do \
	[ ! -f $$e/synced ] || { [ "$$(cat $$e/synced)" = "$$(pwd -P)" ] && $$e/bin/python -c '' 2>/dev/null; } || rm -rf $$e; done)

# Each process has its own servers, which the tests of a file share. Files keep the order of the folders, so that those
# with the longest waits come first. A process that dies ends the run, and so does a test that hangs.
IN_PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

SOURCES := $(shell find layers functions -type f ! -name '*.pyc' ! -path '* *')
APPS := $(wildcard functions/*/app.py)
BUILT := .aws-sam/build/template.yaml
PEERS := $(patsubst requirements/peer-%.in,%,$(wildcard requirements/peer-*.in))

.PHONY: help run token psql migrate test test-chaos test-guards bench screenshots lint openapi safety-rules safety-report safety-case schema build validate invoke lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

run: .venv/synced ## run the whole service on this machine (PORT=3000; AUTH=1 requires tokens; ARGS=--help)
	@exec .venv/bin/python -m local $(ARGS)

token: .venv/synced ## print an access token for AUTH=1 (ARGS="--tenant clinic-a --scope messages"; ARGS=--help)
	@exec .venv/bin/python -m local.tokens $(ARGS)

psql: .venv/synced ## open psql on the database of the running `make run`
	@exec .venv/bin/python -m local.psql

migrate: .venv/synced ## migrate the database of DATABASE_URL, or of the running `make run` (ARGS=--help)
	@exec .venv/bin/python -m local.migrate $(ARGS)

test: .venv/synced .venv-lowest/synced .venv-mock-ai/synced .npm-openapi/synced ## run the tests (ARGS="-k burst" for some of them, ARGS=-n0 in one process)
	@exec .venv/bin/python -m pytest $(IN_PARALLEL) $(ARGS)

test-chaos: .venv/synced ## break processes and stores under load (ARGS="--minutes 20 --seed 1"; ARGS=--help)
	@exec .venv/bin/python -m tests.chaos $(ARGS)

test-guards: .venv/synced ## remove the protocol's guards one by one: a test must fail for each (ARGS=--help)
	@exec .venv/bin/python -m tests.guards $(ARGS)

bench: .venv/synced $(BUILT) $(PEERS:%=.venv-peer-%/synced) ## run the benchmarks, in about six minutes (ARGS="--only history"; ARGS=--help)
	@exec .venv/bin/python -m benchmarks $(ARGS)

screenshots: .venv/synced ## renew the pages' pictures of the console (needs Debian's chromium)
	@SCREENSHOTS=1 exec .venv/bin/python -m pytest tests/console/test_screenshots.py $(ARGS)

lint: .venv/synced ## check style, types, imports, private names, plain English, and what is dangerous
	@failed=; for check in 'ruff check .' 'ruff format --check .' mypy $(APPS:%='mypy %') 'lint-imports --no-logo' \
		'python -m tests.private_names' 'python -m tests.prose' 'bandit -q -c pyproject.toml -r layers functions local'; do \
		echo "$$check"; $$check || failed="$$failed [$$check]"; done; \
	[ -z "$$failed" ] || { echo "Failed:$$failed" >&2; exit 1; }

schema: .venv/synced ## write sql/schema.sql from the migrations and functions
	@exec .venv/bin/python -m local.schema

safety-rules: .venv/synced ## write safety/rules.json and replies.json from the files in their folders
	@exec .venv/bin/python -m local.safety_rules

safety-report: .venv/synced ## measure the safety rules with the corpus (ARGS="--half development --misses"; ARGS=--help)
	@exec .venv/bin/python -m tests.safety.evaluate $(ARGS)

safety-case: .venv/synced ## write the pages of docs/safety from safety/ (ARGS="--results FILE" records a run; ARGS=--help)
	@exec .venv/bin/python -m local.safety_case $(ARGS)

openapi: .venv/synced ## write openapi.json from the models and the table of routes
	@exec .venv/bin/python -m openapi

# W2001 (a parameter without a use): SAM reads DeploymentType itself and removes it.
validate: .venv/synced .venv-sam/synced .venv-checkov/synced ## check template.yaml, and the template that CloudFormation gets
	.venv-sam/bin/sam validate --lint
	@mkdir -p .local
	@.venv/bin/python -m local.expand >.local/expanded.json
	.venv-sam/bin/cfn-lint --ignore-checks W2001 -- .local/expanded.json
	.venv-checkov/bin/checkov --framework cloudformation --skip-download --compact --quiet -f .local/expanded.json

build: $(BUILT) ## build the functions and the layer for AWS Lambda into .aws-sam (no Docker)
	@echo "Built in .aws-sam/build"

invoke: ## run a built function with an event (FUNCTION=IntakeFunction EVENT=events/….json)
	@functions=$$(awk '/^  [A-Za-z]+:$$/ { name = $$1 } /^    Type: AWS::Serverless::Function$$/ { sub(":", "", name); print name }' template.yaml); \
	if ! echo "$$functions" | grep -qx -- "$(FUNCTION)" || [ ! -f "$(EVENT)" ]; then { \
		echo "usage: make invoke FUNCTION=… EVENT=…"; \
		echo "FUNCTION is one of:"; echo "$$functions" | sed 's/^/  /'; \
		echo "EVENT is a file, such as:"; find events -name '*.json' | sort | sed 's/^/  /'; } >&2; exit 2; fi
	@$(MAKE) --no-print-directory .venv/synced $(BUILT) >&2  # so that stdout holds only the response
	@exec .venv/bin/python -m local.invoke $(FUNCTION) $(EVENT)

lock: ## write the lock files of all requirements (ARGS=--upgrade for newer versions)
	@requirements/sync.sh --uv >/dev/null
	$(COMPILE) -c requirements/runtime.in layers/message_handler/pyproject.toml -o requirements/runtime.txt
	$(COMPILE) --resolution lowest-direct layers/message_handler/pyproject.toml -o requirements/lowest.txt
	$(COMPILE) requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/sam.in -o requirements/sam.txt
	$(COMPILE) requirements/checkov.in -o requirements/checkov.txt
	$(COMPILE) requirements/mock-ai.in -o requirements/mock-ai.txt
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	cd tests/openapi && npm install --silent --package-lock-only --omit-lockfile-registry-resolved
	set -e; for peer in $(PEERS); do $(COMPILE) requirements/peer-$$peer.in -o requirements/peer-$$peer.txt; done

clean: ## delete all files that make has made
	rm -rf .venv .venv-sam .venv-checkov .venv-lowest .venv-mock-ai .venv-peer-* .npm-openapi .uv .uv-pip .aws-sam .local .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The versions for every platform, with hashes and without addresses of an index.
COMPILE = UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never uv pip compile --quiet --universal --python-version 3.12 \
	--generate-hashes --no-emit-index-url --custom-compile-command "make lock" $(ARGS)

.venv/synced: requirements/runtime.txt requirements/dev.txt layers/message_handler/pyproject.toml requirements/sync.sh
	@requirements/sync.sh .venv requirements/runtime.txt requirements/dev.txt

.venv-sam/synced: requirements/sam.txt requirements/sync.sh
	@requirements/sync.sh .venv-sam requirements/sam.txt

.venv-checkov/synced: requirements/checkov.txt requirements/sync.sh
	@requirements/sync.sh .venv-checkov requirements/checkov.txt

# The lowest versions that the layer allows: tests start the functions with them.
.venv-lowest/synced: requirements/lowest.txt requirements/sync.sh
	@requirements/sync.sh .venv-lowest requirements/lowest.txt

.venv-mock-ai/synced: requirements/mock-ai.txt requirements/sync.sh
	@requirements/sync.sh .venv-mock-ai requirements/mock-ai.txt

# The tools that tests read openapi.json with. No script of a package runs. Without npm, or without its registry, these
# tests skip, or fail in CI. A company's own certificates are the ones that SSL_CERT_FILE names.
.npm-openapi/synced: tests/openapi/package.json tests/openapi/package-lock.json
	@if ! command -v npm >/dev/null; then echo "npm is missing: some tests of openapi.json are skipped" >&2; exit; fi; \
	echo "Setting up $(@D) with npm $$(npm --version), once and after each change of its lock" >&2; \
	rm -rf $(@D) && mkdir $(@D) && cp $^ $(@D) && export NODE_EXTRA_CA_CERTS="$${NODE_EXTRA_CA_CERTS:-$$SSL_CERT_FILE}" && \
	npm ci --prefix $(@D) --silent --ignore-scripts --no-audit --no-fund --no-update-notifier && touch $@ || \
	{ rm -rf $(@D); echo "npm could not set them up: some tests of openapi.json are skipped" >&2; }

# The peers of the benchmarks, each in its own environment: `make .venv-peer-arq/synced`.
.venv-peer-%/synced: requirements/peer-%.txt requirements/sync.sh
	@requirements/sync.sh $(@D) $<

$(BUILT): .venv-sam/synced template.yaml samconfig.toml requirements/runtime.txt $(SOURCES)
	@echo "Building into .aws-sam"
	@env -u MAKELEVEL -u MAKEFLAGS .venv-sam/bin/sam build
	@touch $@
