# syntax=docker/dockerfile:1
# One node of the data plane and nothing else: no shell, no package manager, no writable path needed.
#
#   docker build -f docker/dataplane.Dockerfile -t chatcluster/dataplane:0.1.0 \
#       --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --read-only --cap-drop ALL -v "$PWD/chat.yaml:/etc/chatcluster/chat.yaml:ro" …
#
# Both stages are the same Debian, so that the binary finds the libc it was linked against. A release
# names both images by digest: --build-arg RUST_IMAGE=…@sha256:… RUNTIME_IMAGE=…@sha256:…
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
ARG REVISION=unknown
# In the metrics: chatcluster_build_info.
ENV CHAT_REVISION=${REVISION}
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --workspace --release --locked --bin dataplane \
    && strip --strip-debug -o /dataplane target/release/dataplane

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="chatcluster-dataplane" \
      org.opencontainers.image.description="ChatCluster's data plane: answers that stream, and are never lost, doubled or reordered" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build --chown=0:0 --chmod=0555 /dataplane /dataplane
# By number: a runtime that must not start root cannot look a name up.
USER 65532:65532
ENV CHAT_CONFIG=/etc/chatcluster/chat.yaml
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/dataplane"]
CMD ["run"]
