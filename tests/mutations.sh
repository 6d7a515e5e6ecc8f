#!/usr/bin/env bash
# Breaks the code on purpose, one way at a time, and shows that the tests see it:
# tests/mutations.sh [NAME…]. Ends with 1 where one was not seen, or does not apply any more.
#
# Each of tests/mutations/*.patch says what it breaks. A copy of the committed code is
# broken, never the working one. Takes two minutes or so for each, fifteen where the tests never end.
set -uo pipefail
cd "$(dirname "$0")/.."
mutations=$PWD/tests/mutations
if [ $# -eq 0 ]; then
    for patch in "$mutations"/*.patch; do set -- "$@" "$(basename "$patch" .patch)"; done
fi

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -x -C "$copy"
export CARGO_TARGET_DIR=${MUTATIONS_TARGET_DIR:-$copy/target} RUST_BACKTRACE=0 CARGO_INCREMENTAL=0
cd "$copy" || exit 1
git init -q

unseen=0
for name in "$@"; do
    patch=$mutations/$name.patch
    if ! git apply "$patch"; then
        echo "$name: does not apply any more"
        unseen=1
        continue
    fi
    # First the simulation alone; what it is too coarse for, the tests beside the code see.
    test() { timeout 900 cargo test --lib -- "$@" 2>&1; }
    said=$(test simulation) && said=$(test sched:: store:: engine:: retry::)
    if grep -q '^error' <<<"$said" && ! grep -q 'test failed' <<<"$said"; then
        echo "$name: does not compile any more"
        unseen=1
    elif ! grep -q '^test result' <<<"$said"; then
        echo "$name: seen, because the tests never end"
    elif grep -q '^test result: FAILED' <<<"$said"; then
        # What a test says after where it panicked.
        oracle=$(grep -m1 -A1 'panicked at' <<<"$said" | tail -1 | cut -c1-110)
        place=$(sed -n "0,/panicked at/s/.*panicked at \([^:]*\).*/\1/p" <<<"$said")
        echo "$name: seen by $place: $oracle"
    else
        echo "$name: NOT SEEN"
        unseen=1
    fi
    git apply --reverse "$patch"
done
exit "$unseen"
