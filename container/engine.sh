#!/bin/sh
# Prints the program that builds and runs images on this machine: docker or podman if they answer, else buildah, which
# needs root but no daemon.
if docker info >/dev/null 2>&1; then
    echo docker
elif podman info >/dev/null 2>&1; then
    echo podman
else
    echo buildah
fi
