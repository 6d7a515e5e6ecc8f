#!/usr/bin/env bash
# Asks a debug daemon what /openapi.json allows, and more: no answer may be a fault of
# the daemon's own, or one that the description does not have; what the description
# forbids must be refused, what it allows taken, and nothing done without a key. Needs
# Python's schemathesis (`pip install schemathesis`) and is no part of the usual tests.
#
#   cargo build && bash tests/schemathesis.sh [arguments of `schemathesis run`]
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
key() {
    target/debug/posthaste key new --json | python3 -c 'import json, sys; key = json.load(sys.stdin); print(key["token"], key["sha256"])'
}
read -r token digest < <(key)
cat >"$folder/posthaste.toml" <<TOML
[service]
listen = ["127.0.0.1:0"]
[storage]
path = "$folder/store"
[[api_keys]]
name = "ops"
sha256 = "$digest"
roles = ["admin"]
organizations = ["*"]
TOML
target/debug/posthaste serve --config "$folder/posthaste.toml" 2>"$folder/log" &
daemon=$!
trap 'kill "$daemon"; wait "$daemon" || true; rm -rf "$folder"' EXIT

address=
until address=$(sed -n 's/.*listening address="\(.*\)".*/\1/p' "$folder/log") && [ -n "$address" ]; do
    kill -0 "$daemon" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done

# Something to ask about.
ask() {
    curl --fail --silent --show-error --header "Authorization: Bearer $token" --json "$2" "http://$address$1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])'
}
subscription=$(ask /v1/subscriptions '{"url": "https://receiver.invalid/hook", "events": ["*"]}')
event=$(ask /v1/events '{"type": "door.opened", "data": {}}')

exclude() { # check, operation…
    local check=$1
    shift
    for operation in "$@"; do
        printf '[[operations]]\ninclude-operation-id = "%s"\nchecks.%s.enabled = false\n' "$operation" "$check"
    done
}
{
    # A stale If-Match (412) is told before what is wrong with the body.
    printf '[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]\n'
    # What no schema can say, and is refused all the same: cursors are what a list gave
    # out; times begin with 1970; secrets are of their format; parents and owners must
    # exist; fields of a subscription depend on one another, and so does what files
    # declare of them.
    exclude positive_data_acceptance \
        listAudit listOrganizations listSources listEventTypes listEvents listSubscriptions \
        listSubscriptionDeliveries listDeliveries \
        publishEvent replay cancelPending rotateSecret putOrganization putSource \
        createSubscription putSubscription patchSubscription planDeclarations
    # A batch is taken whole, and each of its events is answered by itself.
    exclude negative_data_rejection publishBatch
    # Takes a publisher's event_id for the id of the event.
    exclude ensure_resource_availability getEvent
    printf '[[operations]]\ninclude-path-regex = "^/v1/subscriptions/\\\\{id"\nexclude-method = "DELETE"\nparameters = { "path.id" = "%s" }\n' "$subscription"
    printf '[[operations]]\ninclude-operation-id = "getEvent"\nparameters = { "path.id" = "%s" }\n' "$event"
} >"$folder/schemathesis.toml"

schemathesis --config-file "$folder/schemathesis.toml" run "http://$address/openapi.json" --header "Authorization: Bearer $token" "$@"
kill -0 "$daemon"
