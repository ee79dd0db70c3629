# What people do with Tidings. `make help` lists it.

SHELL := bash
.DELETE_ON_ERROR:
.PHONY: help run build deb web test test-tools bench bench-micro fuzz soak lint clean

# Debian puts the mosquitto broker where only root looks for programs.
export PATH := $(PATH):/usr/sbin

WEB := devices/web
WEB_SOURCES := $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
NPM_CI := npm ci --no-audit --no-fund --loglevel=error
VENV := target/venv
# Arguments for the broker:  make run ARGS='--set log.level=debug'
ARGS ?=
# Seconds for each fuzz target, and which:  make fuzz FUZZ_SECONDS=3600 FUZZ_TARGETS=hub
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
# Arguments for the soak:  make soak SOAK='--minutes 10 --kill 120'
SOAK ?=
# Arguments for the benchmark; everything, which takes much longer:  make bench BENCH='--targets --html bench.html'
BENCH ?= --short

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

run: ## Build the web chat if it is out of date, then build and start the broker
	@if tests/install-tools node && $(MAKE) --no-print-directory web; then :; else \
		echo; echo "The web chat was NOT built (see above). The broker starts without it; MQTT clients do not need it."; echo; fi
	cargo run --release --bin tidings -- serve $(ARGS)

build: web ## Build the web chat and the broker, optimised, without starting it
	cargo build --release --bin tidings

web: $(WEB)/dist/index.html ## Build the web chat if its sources are newer than what was built

$(WEB)/dist/index.html: $(WEB_SOURCES) $(WEB)/node_modules/.package-lock.json
	@tests/install-tools node
	cd $(WEB) && npm run --silent build
	@touch $@

%/node_modules/.package-lock.json: %/package.json %/package-lock.json
	@tests/install-tools node
	cd $* && $(NPM_CI)
	@touch $@

PACKAGE := target/package

deb: build ## Build a Debian package (needs: cargo install cargo-deb)
	rm -rf $(PACKAGE) && mkdir -p $(PACKAGE)
	target/release/tidings man --dir $(PACKAGE)/man
	target/release/tidings completions bash > $(PACKAGE)/tidings.bash
	target/release/tidings completions zsh > $(PACKAGE)/_tidings
	target/release/tidings completions fish > $(PACKAGE)/tidings.fish
	cargo deb -p tidings-broker --no-build --strip

test: test-tools web ## Run all tests; installs the clients they need if those are missing
	cargo build --workspace --bins
	cargo test --workspace --no-fail-fast
	cd $(WEB) && npm test

test-tools: $(VENV)/.installed tests/node/node_modules/.package-lock.json ## Install the clients that the tests need, no more
	@tests/install-tools node mosquitto chromium python openssl
	@tests/install-tools nginx haproxy || echo "the examples behind nginx and haproxy are not tried"
	@rustup target add wasm32-unknown-unknown >/dev/null 2>&1 || echo "no wasm32 target: that the core does no I/O is checked by its sources alone"

$(VENV)/.installed: tests/requirements.txt
	@tests/install-tools python
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

bench-micro: ## Time codec, matching, sessions and journal, and count their instructions (installs valgrind)
	cargo bench -p tidings-tests --bench micro
	tests/instruction-counts

lint: ## Check formatting and lints, as CI does
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fuzz: ## Look for bytes that break something: each target for FUZZ_SECONDS, two at once for each core
	tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_TARGETS)

soak: ## Mixed load with kills and reloads for an hour, with figures of memory; SOAK='--minutes 10' for another time
	cargo build --release --bin tidings
	cargo run --release -p tidings-tests --bin soak -- $(SOAK)

bench: ## Compare with the brokers that are installed, in a short form; BENCH='...' for another
	cargo run --release -p tidings-devices --bin tidings-bench -- compare $(BENCH)

clean: ## Remove everything that was built
	cargo clean
	rm -rf $(WEB)/dist $(WEB)/node_modules tests/node/node_modules tests/artifacts
