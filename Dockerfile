# syntax=docker/dockerfile:1

# One build, three small images: gateway, worker, provision. The compiler's version is that of rust-toolchain.toml, the Debian release
# of both stages is the same, because the binaries link its C library.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# The allocator has to know the largest page of memory that it may meet: 64 KiB on ARM, whatever this machine's kernel uses.
# The cache mounts keep the registry and the compiled dependencies between builds, so that a change here compiles our crates only.
RUN --mount=type=cache,id=wordmill-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=wordmill-target,target=/src/target,sharing=locked \
    case "$(uname -m)" in aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
    && cargo build --locked --release --package wordmill-gateway --package wordmill-worker --package wordmill-nats --features jemalloc \
    && mkdir /out \
    && cp target/release/wordmill-gateway target/release/wordmill-worker target/release/wordmill-nats /out/

# C library, root certificates, a user without rights (65532); no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
USER 65532:65532
WORKDIR /

FROM base AS provision
COPY --from=build /out/wordmill-nats /usr/local/bin/wordmill-nats
ENTRYPOINT ["/usr/local/bin/wordmill-nats"]
CMD ["provision"]

FROM base AS worker
COPY --from=build /out/wordmill-worker /usr/local/bin/wordmill-worker
ENV WORDMILL_WORKER_LISTEN=0.0.0.0:9091
EXPOSE 9091
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/wordmill-worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/wordmill-worker"]

FROM base AS gateway
COPY --from=build /out/wordmill-gateway /usr/local/bin/wordmill-gateway
ENV WORDMILL_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/wordmill-gateway", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/wordmill-gateway"]
