#!/bin/sh
# Builds the image. IMAGE names it, BASE the image that it starts from; further arguments go to the engine's build.
#
# pip inside the build uses this machine's package index and certificates. They are mounted, so they are not in the
# image.
set -eu
cd "$(dirname "$0")/.."
image=${IMAGE:-fastswitch}
engine=$(container/engine.sh)

secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
container/pip-config.sh "$secrets"

build() {
    "$@" --tag "$image" ${BASE:+--build-arg "BASE=$BASE"} \
        --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --secret "id=pip.conf,src=$secrets/pip.conf" --secret "id=ca.pem,src=$secrets/ca.pem" .
}

# Only Docker's format has health checks; the default of the other two is the OCI format, which has none.
case $engine in
docker) DOCKER_BUILDKIT=1 build docker build "$@" ;;
podman) build podman build --format docker "$@" ;;
buildah)
    . container/buildah.sh
    BASE=${BASE:-$(container/base.sh)}
    build buildah build --format docker "$@"
    ;;
esac
