# What a developer runs; CONTRIBUTING.md says when. Everything here works as root and as an unprivileged user.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.PHONY: help demo check test bench bench-nfs hosts conformance needs lint rust go trials model programs cluster e2e flows

# Tests mount, and nobody else shall see it: as root each test thread makes a mount namespace of its own, for
# everybody else the whole test program runs in one where it may mount.
ifneq ($(shell id -u),0)
check test hosts trials: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := unshare --user --map-root-user --mount --propagation private
check test hosts trials: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := unshare --user --map-root-user --mount --propagation private
endif

# One program without libraries, its relocations packed so that it stays below 4 MiB.
STATIC := -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs

# The Go that is here: none is fetched in its place.
export GOTOOLCHAIN := local

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## Berth at work, in seconds: volumes, pods, access modes, a restart
	cargo build --locked --bin berth --example demo
	cargo run --locked --quiet --example demo

check: lint rust ## while you work: formatting, lints, all tests in Rust

test: needs lint rust model go conformance trials programs flows ## everything, after installing what it needs; what has to pass before a merge

bench: ## the load generator: a table, and its figures as JSON
	CARGO_TARGET_DIR=target/static RUSTFLAGS='$(STATIC)' \
		cargo bench --locked --bench load --target $$(rustc -vV | sed -n 's/^host: //p')

bench-nfs: ## the same for NFS, on a server and a node with kernels of their own
	CARGO_TARGET_DIR=target/static RUSTFLAGS='$(STATIC)' \
		cargo test --release --locked --test hosts --target $$(rustc -vV | sed -n 's/^host: //p') -- --bench

hosts: needs ## a prompt on three real hosts: an NFS server, two nodes, a network that can be cut
	cargo test --locked --quiet --test hosts -- --shell

conformance: ## the official csi-sanity against the debug build
	cargo build --locked
	tests/conformance/run "$${CARGO_TARGET_DIR:-target}/debug/berth" local

needs:
	tests/needs

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test hosts --test cluster -- -D warnings # those that cargo test leaves out
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

rust:
	cargo test --locked --no-fail-fast

go:
	@unformatted=$$(gofmt -l tests); [ -z "$$unformatted" ] || { echo "run gofmt -w $$unformatted"; exit 1; }
	go vet -C tests/conformance ./...
	go vet -C tests/proto ./...
	go test -C tests/proto -count=1 ./...

model: ## the protocol's model with three calls at once: some 12 million worlds
	rustc --edition 2024 -O --test tests/model/main.rs -o "$${CARGO_TARGET_DIR:-target}/model"
	"$${CARGO_TARGET_DIR:-target}/model" --ignored

trials:
	cargo test --locked --test hosts

programs: ## the Kubernetes of the cluster's tests, and the static berth that runs in it: minutes the first time
	tests/cluster/programs/build "$${CARGO_TARGET_DIR:-target}/programs"
	CARGO_TARGET_DIR=target/static RUSTFLAGS='$(STATIC)' \
		cargo build --release --locked --bin berth --target $$(rustc -vV | sed -n 's/^host: //p')
	cp target/static/$$(rustc -vV | sed -n 's/^host: //p')/release/berth "$${CARGO_TARGET_DIR:-target}/programs/berth"

cluster: needs programs ## a Kubernetes with Berth and a kubectl: `make cluster`, or `make cluster KIND=nfs`
	cargo test --locked --quiet --test cluster -- --shell $(KIND)

e2e: needs programs ## all of Kubernetes' suite of external storage, an hour; writes docs/conformance.md
	cargo test --locked --test cluster -- --e2e $(KIND)

flows:
	tests/deploy/run "$${CARGO_TARGET_DIR:-target}/programs/helm" "$${CARGO_TARGET_DIR:-target}/programs/berth"
	cargo test --locked --test cluster
