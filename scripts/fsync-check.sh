#!/usr/bin/env bash
# Shows that nothing is acknowledged before it is on the disks of a majority: three nodes run under strace, 1,000 transfers
# are sent one by one, and for each the traces must show that at least two nodes had completed the fdatasync that covers its
# place in their logs before its acknowledgement was handed to the kernel. Prints the verdict; ends with 0 only if it holds.
#
#   scripts/fsync-check.sh
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"
cd "$ROOT"

scripts/setup.sh
strace --seccomp-bpf --follow-forks true 2>/dev/null || die "strace may not trace here (a container without ptrace?)"
cargo test --release --quiet --locked --test cluster fsync:: -- --nocapture
