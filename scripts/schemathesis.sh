#!/usr/bin/env bash
# Holds a live cluster of three nodes against its own description (/openapi.json): thousands of generated requests, good and
# bad, and every answer must be one that is described: no undescribed status, header, media type or body, and no 5xx.
#
#   scripts/schemathesis.sh          the whole: some 4,000 requests, minutes
#   scripts/schemathesis.sh short    some hundred requests, under a minute: part of scripts/test.sh
#
#   SEED          repeats a run (printed by the one that failed)
#   QUORATE_PORT  as in cluster.sh (default here 7600)
#   QUORATE_BIN   a built binary to run instead of building one
#
# The requests go to a follower, so that forwarding is tried too. Deadlines stay at their default: one of a millisecond is
# answered 504, and rightly so. Leadership is not moved: for a moment after, 503 is a right answer to anything; tests/api does.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-full} in
  full) examples=120 ;;
  short) examples=4 ;;
  *)
    usage >&2
    exit 2
    ;;
esac

tool=$(schemathesis)/bin/schemathesis
[[ -x $tool ]] || die "schemathesis is missing: scripts/setup.sh installs it"
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-$ROOT/target}")
# A directory of its own, whatever the environment says: it is wiped.
export QUORATE_DIR=$target/schemathesis-cluster QUORATE_PORT=${QUORATE_PORT:-7600}
report=$target/schemathesis-report
cluster() { "$ROOT/scripts/cluster.sh" "$@"; }
base() { printf 'http://127.0.0.1:%d' "$((QUORATE_PORT + $1))"; }

# A node that does not lead.
follower() {
  local node
  for node in 1 2 3; do
    if curl --silent --include "$(base "$node")/livez" | grep --quiet --ignore-case '^quorate-role: follower'; then
      base "$node"
      return
    fi
  done
  return 1
}

post() {
  curl --silent --fail --output /dev/null --header 'Content-Type: application/json' --data "$2" "$url$1" ||
    die "POST $1 failed"
}

# Something to find: what the examples in the document name.
seed_state() {
  post /v1/ledgers '{"id": "usd", "asset": "USD", "scale": 2}'
  post /v1/accounts '{"id": "bank", "ledger": "usd"}'
  post /v1/accounts '{"id": "users:alice", "ledger": "usd", "code": 2}'
  local number
  for number in 1 2 3 4 5; do
    post /v1/transfers "{\"id\": \"s$number\", \"debit_account\": \"bank\", \"credit_account\": \"users:alice\", \"amount\": \"7\"}"
  done
  curl --silent --fail --output /dev/null --request PUT --data 'value' "$url/v1/kv/some/key" || die "PUT failed"
}

trap 'cluster down' EXIT
cluster wipe
cluster up 3
url=$(follower) || die "no node follows"
seed_state
mkdir --parents "$report"
# The tool keeps what it found where it runs.
cd "$report"
status=0
"$tool" --config-file "$ROOT/scripts/schemathesis.toml" run "$url/openapi.json" \
  --max-examples "$examples" --phases examples,coverage,fuzzing --workers 1 --continue-on-failure \
  --exclude-operation-id transferLeader \
  --exclude-operation-id moveMember --exclude-operation-id removeMember \
  --exclude-operation-id demoteMember --exclude-operation-id replaceMember \
  --report ndjson --report-ndjson-path "$report/events.ndjson" --no-color \
  ${SEED:+--seed "$SEED"} >"$report/summary.txt" 2>&1 || status=$?
if ((status != 0)); then
  cat "$report/summary.txt" >&2
  die "the API does not keep to its description; the nodes' logs are in $QUORATE_DIR, the requests in $report"
fi
grep --extended-regexp 'generated|Seed|=====' "$report/summary.txt"
