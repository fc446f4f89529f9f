#!/usr/bin/env bash
# mutant: a Pipit that never syncs must be caught by powercut.py.
#
# Purpose: shows that the power-cut test sees what it is there for, in the real program and not only in a toy.
# Usage:   tests/crash/mutant.sh           (builds a second release; target/mutant keeps it for the next time)
# Result:  exit 0 when powercut.py failed the mutant (its exit 1) for lost mail and missing syncs; else 1 and why.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT

mkdir "$room/tree"
(cd "$root" && tar -c --exclude=./target --exclude=./.git --exclude=./.cache .) | tar -x -C "$room/tree"
patched="$room/tree/src/store/env.rs"
sed -i '0,/EnvFlags::NO_SUB_DIR\b/s//EnvFlags::NO_SUB_DIR | EnvFlags::NO_SYNC/' "$patched"
changed=$(diff "$root/src/store/env.rs" "$patched" | grep -c '^>' || true)
if [ "$changed" != 1 ]; then
    echo "mutant: the patch fits $changed lines of src/store/env.rs, not 1: mend the pattern in tests/crash/mutant.sh"
    exit 1
fi
echo "mutant: $(diff "$root/src/store/env.rs" "$patched" | grep '^>')"

# The mutant needs no small binary: thin LTO and more units build it in a fraction of the time.
CARGO_TARGET_DIR="$root/target/mutant" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo build --release --quiet --manifest-path "$room/tree/Cargo.toml" --bin pipit

status=0
PIPIT="$root/target/mutant/release/pipit" python3 "$root/tests/crash/powercut.py" --cuts 30 --messages 150 >"$room/log" 2>&1 || status=$?
sed 's/^/    /; s/FAIL/fail/; s/passed,/held,/' "$room/log"
if [ "$status" != 1 ]; then
    echo "mutant: powercut.py exited $status on a server that never syncs: it must exit 1"
    exit 1
fi
for sentence in "FAIL strict: nothing acknowledged is lost" "FAIL every acknowledgement had a completed sync of its own"; do
    if ! grep -q "$sentence" "$room/log"; then
        echo "mutant: caught, but not for the right reason; missing: $sentence"
        exit 1
    fi
done
echo "  ok   the mutant that never syncs was caught"
echo "mutant: 1 passed, 0 failed"
