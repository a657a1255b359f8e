#!/usr/bin/env bash
# The gate: format, lints, documentation, shell scripts and the layering of the source. Changes nothing.
#
#   scripts/check.sh
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"
cd "$ROOT"

say "check: format"
cargo fmt --check
cargo fmt --check --manifest-path benches/peers/Cargo.toml
say "check: scripts"
shellcheck --external-sources scripts/*.sh .ci/run
say "check: lints"
cargo clippy --release --quiet --all-targets --locked -- --deny warnings
scripts/faults.sh lint
say "check: documentation"
RUSTDOCFLAGS="--deny warnings" cargo doc --document-private-items --release --quiet --no-deps --locked
say "check: layers"
cargo test --release --quiet --locked --test tidy
