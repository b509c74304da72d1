#!/bin/sh
# Makes sure that there are Chromium and its driver: installs them on Debian as root, else says what is missing.
set -eu

both() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }
debian() { command -v apt-get >/dev/null && grep -qs '^ID=debian$' /etc/os-release; }

if both; then
    exit
fi
if debian && [ "$(id -u)" -eq 0 ]; then
    echo "installing chromium and chromium-driver for the tests of the chat page"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install --yes -qq --no-install-recommends chromium chromium-driver >/dev/null
else
    echo "the tests of the chat page are left out: they need chromium and chromedriver on the PATH" >&2
fi
