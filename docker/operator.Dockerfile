# syntax=docker/dockerfile:1
# The operator and nothing else: no shell, no package manager, no writable path needed.
#
#   docker build -f docker/operator.Dockerfile -t chatcluster/operator:0.1.0 \
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
    cargo build --workspace --release --locked --bin operator \
    && strip --strip-debug -o /operator target/release/operator

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="chatcluster-operator" \
      org.opencontainers.image.description="Turns ChatCluster resources into running chat nodes, and keeps them so" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0555 /operator /operator
# By number: a runtime that must not start root cannot look a name up.
USER 65532:65532
EXPOSE 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/operator"]
CMD ["run"]
