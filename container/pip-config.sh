#!/bin/sh
# Writes into directory $1 what pip needs inside a build to reach what it reaches here: pip.conf and ca.pem.
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
