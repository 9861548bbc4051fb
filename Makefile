# Everything that is done with this project. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
# Written last, so that an interrupted installation is made anew.
VENV_READY := $(VENV)/ready

CARGO_DENY := cargo-deny@0.20.2

export SAM_CLI_TELEMETRY := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## Run all tests; offline, once `cargo fetch` has run
	cargo test --locked

.PHONY: check
check: format lint doc deny template test ## Run everything that CI runs

.PHONY: format
format: ## Check the formatting (cargo fmt mends it)
	cargo fmt --all -- --check

.PHONY: lint
lint: ## Run clippy; a warning is an error
	cargo clippy --locked --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

.PHONY: deny
deny: cargo-deny ## Check licences, sources and banned crates of the dependencies
	cargo deny --locked check bans licenses sources

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
template: $(VENV_READY) ## Check template.yaml
	$(VENV)/bin/sam validate --lint --region eu-central-1
	$(VENV)/bin/cfn-lint template.yaml

.PHONY: watch
watch: $(VENV_READY) ## Serve the function on 127.0.0.1 with hot reload, beside a local AWS
	@echo "building the function (about two minutes the first time)"
	cargo build --locked
	$(VENV)/bin/python local/watch.py

.PHONY: build
build: $(VENV_READY) ## Build the function for Lambda, in .aws-sam
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sam build

.PHONY: deploy
deploy: build ## Deploy to the AWS account of your credentials; asks for what it needs to know
	$(VENV)/bin/sam deploy --guided --capabilities CAPABILITY_IAM

.PHONY: requirements
requirements: ## Pin the newest versions of what local/requirements.in names
	rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement local/requirements.in
	$(VENV)/bin/pip freeze > local/requirements.txt
	touch $(VENV_READY)

$(VENV_READY): local/requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	@echo "installing the local tools in $(VENV) (about a minute, once)"
	python3 -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement local/requirements.txt
	@touch $@
