# Builds three small images: gateway, worker and provision. The compiler has the version of
# rust-toolchain.toml. Build and base image use the same Debian release, because the binaries link
# its C library.
FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
# jemalloc fails on kernels with larger memory pages than it was compiled for, by default those of
# the build machine. ARM kernels have pages of up to 64 KiB (2^16 bytes). The cache mounts keep the
# registry and the compiled dependencies. cargo compares the times of files with those of the last
# build, and files of an older version can have earlier times, so the sources get the current time.
RUN --mount=type=cache,id=wordmill-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=wordmill-target,target=/src/target,sharing=locked \
    case "$(uname -m)" in aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
    && find . -path ./target -prune -o -type f -exec touch {} + \
    && cargo build --locked --release --package wordmill-gateway --package wordmill-worker --package wordmill-nats --features jemalloc \
    && mkdir /out \
    && cp target/release/wordmill-gateway target/release/wordmill-worker target/release/wordmill-nats /out/

# Contains the C library, root certificates and an unprivileged user (65532), but no shell and no
# package manager.
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
