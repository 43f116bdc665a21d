# The image of Berth: one static program, nothing else.
#
#     docker build -t registry.example.com/berth:0.1.0 .
#     docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.com/berth:0.1.0 --push .
#
# It builds on the machine's own architecture, for the one that is asked for. podman and buildah build it as well.

# The toolchain of rust-toolchain.toml.
ARG RUST_VERSION=1.95.0
FROM --platform=$BUILDPLATFORM docker.io/library/rust:${RUST_VERSION}-slim-bookworm AS build
ARG TARGETARCH
WORKDIR /berth

# What Rust and Debian call the architecture; a C compiler is its linker.
RUN case "$TARGETARCH" in \
        amd64) cpu=x86_64 ;; \
        arm64) cpu=aarch64 ;; \
        *) echo "no rust target is known for architecture '$TARGETARCH'" >&2; exit 1 ;; \
    esac \
    && linker=gcc && packages= \
    && if [ "$cpu" != "$(uname -m)" ]; then \
        linker=$cpu-linux-gnu-gcc \
        && packages="gcc-$(echo $cpu | tr _ -)-linux-gnu libc6-dev-$TARGETARCH-cross"; \
    fi \
    && apt-get update && apt-get install -y --no-install-recommends libc6-dev $packages \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$cpu-unknown-linux-gnu" \
    && echo "$cpu-unknown-linux-gnu" > /target-triple \
    && printf '%s\n' '[build]' "target = \"$cpu-unknown-linux-gnu\"" \
        "[target.$cpu-unknown-linux-gnu]" "linker = \"$linker\"" \
        'rustflags = ["-C", "target-feature=+crt-static", "-C", "link-arg=-Wl,-z,pack-relative-relocs"]' \
        > /usr/local/cargo/config.toml

COPY Cargo.toml Cargo.lock build.rs ./
# Cargo looks for each target that has no path in Cargo.toml, also for those that it does not build.
COPY benches/load/main.rs benches/load/main.rs
COPY proto proto
COPY src src
# What is downloaded and built stays in caches, so that a change of src builds Berth alone anew.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target cargo build --release --locked --bin berth \
    && mkdir /out && cp "/target/$(cat /target-triple)/release/berth" /out/berth

FROM scratch
# That of Cargo.toml.
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="berth" \
      org.opencontainers.image.description="A CSI driver for node-local directories and NFS whose access modes are true" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0555 /out/berth /berth
# No user is named: Berth mounts, so it is root. It writes to no place of the image.
ENTRYPOINT ["/berth"]
