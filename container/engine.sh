#!/bin/sh
# Prints what builds and runs images on this machine: docker or podman if they answer, else buildah, which needs no
# daemon but root.
if docker info >/dev/null 2>&1; then
    echo docker
elif podman info >/dev/null 2>&1; then
    echo podman
else
    echo buildah
fi
