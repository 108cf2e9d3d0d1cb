# syntax=docker/dockerfile:1
# The client on the command line and nothing else: for jobs that chat, load or verify from within a
# cluster.
#
#   docker build -f docker/chatctl.Dockerfile -t chatcluster/chatctl:0.1.0 \
#       --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Both stages are the same Debian, so that the binary finds the libc it was linked against. A release
# names both images by digest: --build-arg RUST_IMAGE=…@sha256:… RUNTIME_IMAGE=…@sha256:…
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --workspace --release --locked --bin chatctl \
    && strip --strip-debug -o /chatctl target/release/chatctl

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="chatctl" \
      org.opencontainers.image.description="ChatCluster's client on the command line: chat, follow, load, chaos, verify" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0555 /chatctl /chatctl
# By number: a runtime that must not start root cannot look a name up.
USER 65532:65532
ENTRYPOINT ["/chatctl"]
