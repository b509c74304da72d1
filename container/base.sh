#!/bin/sh
# Prints the base image for buildah: Debian's own, or, where its registry is out of reach, one made by debootstrap.
set -eu
# shellcheck source=container/buildah.sh
. "$(dirname "$0")/buildah.sh"
official=docker.io/library/debian:12-slim
own=localhost/debian-bootstrapped:12

if buildah pull --quiet "$official" >/dev/null 2>&1; then
    echo "$official"
    exit
fi
if ! buildah inspect --type image "$own" >/dev/null 2>&1; then
    tree=$(mktemp -d /var/tmp/debian.XXXXXX)
    trap 'rm -rf "$tree"' EXIT
    debootstrap --variant=minbase bookworm "$tree" >&2
    # The last two are copies of this machine's.
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/etc/resolv.conf "$tree"/etc/hostname
    cat >"$tree/etc/apt/sources.list" <<'SOURCES'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
SOURCES
    scratch=$(buildah from scratch)
    buildah add --quiet "$scratch" "$tree" / >/dev/null
    buildah commit --quiet --rm "$scratch" "$own" >/dev/null
fi
echo "$own"
