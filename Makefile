# Everything that is done with this project. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
# A folder of its own: checkov holds on to older versions of what the local AWS uses.
CHECKS_VENV := .venv-checks
# Written last, so that an interrupted installation is made anew.
READY := ready

export ARCHITECTURE ?= x86_64
# The local AWS runs the function as a process of this machine.
run e2e load bench budget: ARCHITECTURE := $(subst aarch64,arm64,$(shell uname -m))
# With its C library in it: there is nothing to look for at the start, and nothing that Lambda's system has to match.
TARGET = $(subst arm64,aarch64,$(ARCHITECTURE))-unknown-linux-musl
EVENT ?= events/media.json
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := event authorization secret media_type settings
# The last one: `make deploy` writes its own behind the default.
STACK ?= $(shell sed -n 's/^stack_name = "\(.*\)"/\1/p' samconfig.toml | tail -1)

COLD_START := benches/cold_start
PEERS := $(COLD_START)/target/release/cold-start \
	$(COLD_START)/peers/bare/target/release $(COLD_START)/peers/echo/target/release \
	$(COLD_START)/peers/tutorial/target/release \
	$(COLD_START)/peers/python/.venv/$(READY) $(COLD_START)/peers/node/build/index.mjs

# cargo-lambda takes its linker from the same folder, and adds the target to Rust where it is missing.
COMPILE = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cargo lambda build --locked --release --target $(TARGET)

CARGO_DENY := cargo-deny@0.20.2

export SAM_CLI_TELEMETRY := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Deploy everything to a local AWS and show the function's log, until Ctrl-C
	@$(VENV)/bin/python local/stack.py run

.PHONY: watch
watch: $(VENV)/$(READY) ## Serve the function on 127.0.0.1 with hot reload, beside a local AWS, until Ctrl-C
	@echo "building the function (about two minutes the first time)"
	cargo build --locked
	@$(VENV)/bin/python local/watch.py

.PHONY: invoke
invoke: $(VENV)/$(READY) ## Hand a file of events/ to the function of `make watch`: make invoke EVENT=events/presign.json
	$(VENV)/bin/cargo-lambda lambda invoke --invoke-address 127.0.0.1 --data-file $(EVENT)

.PHONY: build
build: $(VENV)/$(READY) ## Build the function for Lambda, in .aws-sam: ARCHITECTURE=x86_64 or arm64
	@command -v rustup > /dev/null || \
		{ echo "rustup is missing, which has Rust and its targets; install it from https://rustup.rs" >&2; exit 1; }
	@mkdir -p .local
	@# sam build compiles it as well (build-Function), but says nothing until it is over.
	@echo "building the function for Lambda (some minutes the first time)"; started=$$SECONDS; \
		$(COMPILE) && \
		{ $(VENV)/bin/sam build --parameter-overrides Architecture=$(ARCHITECTURE) > .local/sam-build.log 2>&1 || \
			{ cat .local/sam-build.log >&2; exit 1; }; } && \
		echo "built in $$((SECONDS - started)) s"

# What sam build calls for the resource `Function`, in this folder.
.PHONY: build-Function
build-Function: $(VENV)/$(READY)
	$(COMPILE) --lambda-dir "$(ARTIFACTS_DIR)" --flatten presigned-upload

.PHONY: deploy
deploy: build ## Deploy to the AWS account of your credentials; asks for what it needs to know
	@# Without --parameter-overrides, which would hide the answers of the last time.
	@echo "built for $(ARCHITECTURE); the parameter Architecture has to say the same"
	$(VENV)/bin/sam deploy --guided

.PHONY: destroy
destroy: $(VENV)/$(READY) ## Delete the stack from your AWS account, but neither the bucket nor the secret: STACK=NAME
	@echo "the bucket and the secret stay, with what they hold; to be rid of them, delete them yourself:"
	$(VENV)/bin/sam list stack-outputs --stack-name $(STACK)
	$(VENV)/bin/sam delete --stack-name $(STACK)

.PHONY: test
test: ## Run all tests
	cargo test --locked
	@$(MAKE) --no-print-directory e2e

.PHONY: e2e
e2e: build $(CHECKS_VENV)/$(READY) ## Run the tests of the deployed stack, on a local AWS
	@$(VENV)/bin/python local/stack.py with cargo test --locked --test it -- --ignored deployed::

.PHONY: load
load: build ## Send 200,000 requests to one instance, and 64 callers to the stack on a local AWS; prints the figures
	@$(VENV)/bin/python local/stack.py with cargo test --locked --test it -- \
		--ignored --nocapture --test-threads 1 load::

.PHONY: timing
timing: ## Measure whether the time of a comparison tells how much of an API key is right
	@echo "building it as the function is built (some minutes the first time)"
	cargo bench --locked --bench api_key_timing

.PHONY: bench
bench: build $(PEERS) ## Measure cold starts beside the same function in other languages; writes docs/ and the README (25 minutes)
	@echo "measuring, as root for the CPU share of 128 MB; nothing else should run on this machine"
	taskset --cpu-list 0 $(COLD_START)/target/release/cold-start run $(COLD_START)/candidates.json docs/cold-start.json
	cargo bench --locked --bench grant
	$(COLD_START)/target/release/cold-start parts target/criterion docs/parts.json
	$(COLD_START)/target/release/cold-start report .

$(COLD_START)/target/release/cold-start: $(wildcard $(COLD_START)/src/*) $(COLD_START)/Cargo.toml $(COLD_START)/Cargo.lock
	cargo build --locked --release --manifest-path $(COLD_START)/Cargo.toml
	@touch $@

$(COLD_START)/peers/%/target/release: $(COLD_START)/peers/%/src/main.rs $(COLD_START)/peers/%/Cargo.toml \
		$(COLD_START)/peers/%/Cargo.lock
	cargo build --locked --release --manifest-path $(COLD_START)/peers/$*/Cargo.toml
	@touch $@

$(COLD_START)/peers/python/.venv/$(READY): $(COLD_START)/peers/python/requirements.txt
	$(INSTALL)

# aws-lambda-ric builds a part in C++.
$(COLD_START)/peers/node/build/index.mjs: $(COLD_START)/peers/node/index.mjs $(COLD_START)/peers/node/package-lock.json
	@for tool in npm cmake autoreconf libtoolize g++; do command -v $$tool > /dev/null || { echo "$$tool is missing; install Node.js 20 or \
	newer, and with apt-get: cmake autoconf automake libtool g++" >&2; exit 1; }; done
	cd $(COLD_START)/peers/node && npm ci --no-audit --no-fund && npm run build

.PHONY: budget
budget: build $(COLD_START)/target/release/cold-start ## Hold the size and the instructions of a cold start to their budget; WRITE=1 makes a new one
	@command -v valgrind > /dev/null || { echo "valgrind is missing; install it with: apt-get install valgrind" >&2; exit 1; }
	@python3 benches/budget.py $(if $(WRITE),write,check)

.PHONY: profile
profile: $(VENV)/$(READY) $(COLD_START)/target/release/cold-start ## Count which crate the instructions of a cold start are spent in; writes docs/performance.md
	@command -v valgrind > /dev/null || { echo "valgrind is missing; install it with: apt-get install valgrind" >&2; exit 1; }
	@python3 benches/profile.py

.PHONY: variants
variants: $(VENV)/$(READY) $(COLD_START)/target/release/cold-start ## Build the function in other ways and measure them all; writes docs/performance.md (25 minutes)
	@echo "building and measuring, as root for the CPU share of 128 MB; nothing else should run on this machine"
	@python3 benches/variants.py

.PHONY: fuzz
fuzz: ## Fuzz what comes from outside, each target of fuzz/ for FUZZ_SECONDS; what is found is in fuzz/artifacts
	@command -v cargo-fuzz > /dev/null || \
		{ echo "cargo-fuzz is missing; install it with: cargo install --locked cargo-fuzz" >&2; exit 1; }
	@echo "building the targets (some minutes the first time), then $(FUZZ_SECONDS) s for each of: $(FUZZ_TARGETS)"
	@# RUSTC_BOOTSTRAP: what libFuzzer needs of the compiler is unstable. No sanitizer: there is no unsafe code to watch.
	@cd fuzz && export RUSTC_BOOTSTRAP=1 && cargo fuzz build --sanitizer none && for target in $(FUZZ_TARGETS); do \
		seeds=seeds/$$target; [ -d $$seeds ] || seeds=../events; mkdir -p corpus/$$target; echo "$$target"; \
		cargo fuzz run --sanitizer none $$target corpus/$$target $$seeds -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=5 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

.PHONY: mutants
mutants: ## Bend each rule of src/ and see whether a test goes red (about an hour); the report is in target/mutants.out
	@command -v cargo-mutants > /dev/null || \
		{ echo "cargo-mutants is missing; install it with: cargo install --locked cargo-mutants" >&2; exit 1; }
	cargo mutants --output target

.PHONY: check
check: format lint doc deny template test ## Run all checks and tests

.PHONY: format
format: ## Check the formatting (cargo fmt mends it)
	cargo fmt --all -- --check
	@for folder in $(COLD_START) $(COLD_START)/peers/bare $(COLD_START)/peers/echo $(COLD_START)/peers/tutorial; do \
		echo "cargo fmt in $$folder"; cargo fmt --manifest-path $$folder/Cargo.toml -- --check || exit 1; \
	done

.PHONY: lint
lint: ## Run clippy; a warning is an error
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --manifest-path $(COLD_START)/Cargo.toml -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

.PHONY: deny
deny: cargo-deny ## Check licences, sources and banned crates of the dependencies
	cargo deny --locked check bans licenses sources
	cargo deny --locked --manifest-path $(COLD_START)/Cargo.toml --config deny.toml check bans licenses sources

.PHONY: advisories
advisories: cargo-deny ## Check the dependencies against the RustSec advisories, fetched from GitHub
	cargo deny --locked check advisories

.PHONY: cargo-deny
cargo-deny:
	@command -v cargo-deny > /dev/null || \
		{ echo "cargo-deny is missing; install it with: make install-cargo-deny" >&2; exit 1; }

.PHONY: install-cargo-deny
install-cargo-deny: ## Install cargo-deny with cargo (about three minutes)
	cargo install --quiet --locked $(CARGO_DENY)

.PHONY: template
template: $(VENV)/$(READY) $(CHECKS_VENV)/$(READY) ## Check template.yaml
	$(VENV)/bin/sam validate --lint --region eu-central-1
	$(VENV)/bin/cfn-lint template.yaml
	$(CHECKS_VENV)/bin/checkov --file template.yaml --framework cloudformation --skip-download --compact --quiet

.PHONY: requirements
requirements: ## Pin the newest versions of what the files local/requirements*.in name
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --requirement local/requirements.in
	$(VENV)/bin/pip freeze > local/requirements.txt
	python3 -m venv --clear $(CHECKS_VENV)
	$(CHECKS_VENV)/bin/pip install --quiet --requirement local/requirements-checks.in
	$(CHECKS_VENV)/bin/pip freeze > local/requirements-checks.txt
	touch $(VENV)/$(READY) $(CHECKS_VENV)/$(READY)

$(VENV)/$(READY): local/requirements.txt
	$(INSTALL)

$(CHECKS_VENV)/$(READY): local/requirements-checks.txt
	$(INSTALL)

define INSTALL
@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
@echo "installing $< in $(@D) (about a minute, once)"; started=$$SECONDS; \
	python3 -m venv --clear $(@D) && \
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $< && \
	touch $@ && echo "installed in $$((SECONDS - started)) s" || \
	{ echo "what is missing stands above; mend it and run make again" >&2; exit 1; }
endef
