#!/usr/bin/env bash
# Everything that has to hold before a change lands: setup, the gate, the build, all tests, the short form of the fault tests.
#
#   scripts/test.sh
#
# From an empty cache this compiles RocksDB once, about thirteen minutes on two cores; after that it takes minutes.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"
cd "$ROOT"

scripts/setup.sh
scripts/check.sh
say "test: build"
cargo build --release --quiet --locked
say "test: run"
cargo test --release --locked
say "test: the API against its description"
scripts/schemathesis.sh short
say "test: the cluster in a simulation, from fixed seeds"
scripts/faults.sh sim --seeds 50 --twice 10
scripts/faults.sh sim --regressions
say "test: nodes killed, frozen and cut off under load, and what their clients saw checked"
scripts/faults.sh short
say "test: nodes killed while transfers are posted by the thousand, and the books held against all of them"
scripts/faults.sh kills --seed 7 --hits 8 --transfers 5000
say "test: files of a node harmed, and what it makes of them"
scripts/faults.sh flips --seed 7 --flips 1500 --nodes 4
