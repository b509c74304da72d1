#!/bin/sh
# Writes pip.conf and ca.pem into directory $1, so that pip inside a build reaches the same index as on this machine.
set -eu
setting() { python3 -m pip config get "global.$1" 2>/dev/null || true; }

certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
index=${PIP_INDEX_URL:-$(setting index-url)}
{
    echo '[global]'
    [ -z "$index" ] || echo "index-url = $index"
    [ ! -r "$certificates" ] || echo 'cert = /run/secrets/ca.pem'
} >"$1/pip.conf"
if [ -r "$certificates" ]; then cat "$certificates"; fi >"$1/ca.pem"
