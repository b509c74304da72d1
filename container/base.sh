#!/bin/sh
# Prints the base image for buildah: Debian's own, or one made by debootstrap if Debian's registry cannot be reached.
set -eu
# shellcheck source=container/buildah.sh
. "$(dirname "$0")/buildah.sh"
official=debian:12-slim
own=localhost/debian-bootstrapped:12

if buildah pull --quiet "$official" >/dev/null 2>&1; then
    echo "$official"
    exit
fi
if ! buildah inspect --type image "$own" >/dev/null 2>&1; then
    tree=$(mktemp -d /var/tmp/debian.XXXXXX)
    trap 'rm -rf "$tree"' EXIT
    debootstrap --variant=minbase bookworm "$tree" >&2
    # debootstrap copies the last two from this machine.
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/etc/resolv.conf "$tree"/etc/hostname
    scratch=$(buildah from scratch)
    buildah add --quiet "$scratch" "$tree" / >/dev/null
    buildah commit --quiet --rm "$scratch" "$own" >/dev/null
fi
echo "$own"
