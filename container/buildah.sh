# shellcheck shell=sh
# Source this file: it installs buildah if needed, and sets it up to work in containers that allow no namespaces.
export BUILDAH_ISOLATION=chroot
if [ "$(id -u)" -ne 0 ]; then
    echo "neither Docker nor Podman answers, and buildah needs root here" >&2
    exit 1
fi
for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || missing="${missing:-} $tool"
done
if [ -n "${missing:-}" ]; then
    apt-get update -qq >&2
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $missing >&2
fi
