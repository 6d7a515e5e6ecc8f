#!/usr/bin/env bash
# Asks a debug daemon what /openapi.json allows, and more: no answer may be a fault of
# the daemon's own, or one that the description does not have. Needs Python's
# schemathesis (`pip install schemathesis`) and is no part of the usual tests.
#
#   cargo build && bash tests/schemathesis.sh [arguments of `schemathesis run`]
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
cat >"$folder/posthaste.toml" <<END
[service]
listen = ["127.0.0.1:0"]
auth = "none"
[storage]
path = "$folder/store"
END
target/debug/posthaste serve --config "$folder/posthaste.toml" 2>"$folder/log" &
daemon=$!
trap 'kill "$daemon"; wait "$daemon" || true; rm -rf "$folder"' EXIT

address=
until address=$(sed -n 's/.*listening address="\(.*\)".*/\1/p' "$folder/log") && [ -n "$address" ]; do
    kill -0 "$daemon" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
schemathesis run "http://$address/openapi.json" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance "$@"
kill -0 "$daemon"
