.DEFAULT_GOAL := help
.PHONY: help build demo test crash crash-kafka crash-matrix month scale proofs-bite bench bench-sinks deny kerberos

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binary, target/release/lockstep
	cargo build --release --locked

demo: ## Play a portal and collect from it; nothing to set up. DEMO="--for 30s" ends it
	cargo run --release --locked -- demo $(DEMO)

test: ## Everything that must hold: format, lints, tests, documentation
	tests/run

crash: ## Kill the program KILLS times at random (50), twice at every fault point, and compare its files with the portal
	KILLS=$(or $(KILLS),50) cargo test --locked --features failpoints --test it crash::long -- --ignored --exact --nocapture

crash-kafka: ## Kill the program KILLS (100) times and brokers meanwhile, one at a time and all at once, on three nodes of a real Kafka
	KILLS=$(or $(KILLS),100) cargo test --locked --features failpoints --test it kafka::long:: -- --ignored --nocapture --test-threads 1

crash-matrix: ## Kill the program KILLS times (3) at every fault point with every sink; writes the table of docs/delivery.md
	KILLS=$(or $(KILLS),3) cargo test --locked --features failpoints --test it matrix::full -- --ignored --exact --nocapture

month: ## Collect ROWS (1000000) rows a day over DAYS (30) simulated days: requests, state and memory of each day
	DAYS=$(or $(DAYS),30) ROWS=$(or $(ROWS),1000000) cargo test --release --locked --features failpoints --lib -- --ignored --nocapture a_tenant_of_a_million_rows_a_day

scale: ## Collect from 500 organizations behind one token at the defaults for MINUTES (20): requests, lag and memory
	MINUTES=$(or $(MINUTES),20) cargo test --locked --features failpoints --test it scale::long -- --ignored --exact --nocapture

bench: ## Measure: keying a row, writing a record, and ROWS (500000) rows from portal to disk in ROUNDS (3) rounds, against a floor
	cargo bench --locked --bench keys -- --quick
	cargo bench --locked --bench records -- --quick
	cargo bench --locked --bench end_to_end -- $(or $(ROWS),500000) $(or $(ROUNDS),3)

bench-sinks: ## Measure ROWS (500000) records from a filled outbox to a real Kafka, _bulk and HEC, beside bare clients with the same payloads
	cargo bench --locked --bench sinks -- $(or $(ROWS),500000) $(or $(ROUNDS),1)

deny: ## Licences, bans and sources of the dependencies; builds cargo-deny once (about 3 minutes)
	cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked --version '^0.20'
	cargo deny --locked check licenses bans sources

proofs-bite: ## Plant each fault of tests/mutants/ and see the test that it names fail
	tests/proofs-bite

kerberos: ## Deliver to a real Kafka by a ticket of a real KDC, with the program built for it
	tests/kerberos
