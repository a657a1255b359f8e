#!/usr/bin/env bash
# Ten times the load a cluster can carry: how much of it is still done, what the rest is told, and what it costs. Three
# nodes on this machine. The peak is measured with clients that wait for their answers, then requests come at ten times
# that rate whether or not answers keep up, then the peak is measured once more, and the mean of both counts. Before all of it
# the same clients fill the cluster for as long as a peak takes: an empty one has no tables to merge yet and is faster for
# a while than it can be for an hour. Prints a table and ends with 0 only if every line of it is as promised: goodput
# of at least 80 % of the peak, no election, memory flat, refusals 429 or 503 with Retry-After, and what is accepted
# answered within its deadline.
#
#   scripts/overload.sh
#
#   QUORATE_OVERLOAD_SECONDS  how long the overload lasts (default 300); filling and each peak take a tenth of it
#   QUORATE_OVERLOAD_PORT     first of the ports (default 18000)
#   QUORATE_OVERLOAD_BATCH    transfers in a request (default 500)
#   QUORATE_OVERLOAD_CLIENTS  connections of the overload (default 1000)
#
# It writes a few hundred megabytes a second for as long as it runs: five minutes want 70 GB where TMPDIR lies.
#
# The load shares the machine with the nodes: it needs a tenth of a processor.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

SECONDS_LONG=${QUORATE_OVERLOAD_SECONDS:-300}
PORT=${QUORATE_OVERLOAD_PORT:-18000}
BATCH=${QUORATE_OVERLOAD_BATCH:-500}
CLIENTS=${QUORATE_OVERLOAD_CLIENTS:-1000}
# Small caches, so that memory that grows is not a cache filling up; all else as it comes.
FLAGS="--state-cache-bytes 64MiB --seal-journal-bytes 64MiB"
FACTOR=10
PEAK_CLIENTS=32
PEAK_SECONDS=$((SECONDS_LONG / 10))
NODES=(1 2 3)

WORK=$(mktemp --directory "${TMPDIR:-/tmp}/quorate-overload.XXXXXX")
FAILED=0

cluster() {
  QUORATE_DIR="$WORK/cluster" QUORATE_PORT=$PORT QUORATE_BIN=$(binary) QUORATE_FLAGS=$FLAGS \
    "$ROOT/scripts/cluster.sh" "$@"
}

cleanup() {
  cluster wipe >/dev/null 2>&1 || true
  rm --recursive --force "$WORK"
}
trap cleanup EXIT

url() { printf 'http://127.0.0.1:%d%s' "$((PORT + $1))" "$2"; }

endpoints() {
  local node
  for node in "${NODES[@]}"; do printf -- '--endpoint %s ' "$(url "$node" "")"; done
}

# bench SECONDS ARGUMENTS...: a report as JSON.
bench() {
  local seconds=$1
  shift
  # shellcheck disable=SC2046
  "$(binary)" bench transfer-batch $(endpoints) --batch "$BATCH" --leader-only --json \
    --seconds "$seconds" "$@"
}

# number NAME FILE: the first number of that name in a report.
number() { grep --only-matching "\"$1\":[0-9.]*" "$2" | head -1 | cut --delimiter=: --fields=2; }

# header NAME NODE: what the node says of itself.
header() { curl --silent --max-time 5 --include "$(url "$2" /livez)" | tr --delete '\r' | sed --quiet "s/^$1: //p"; }

memory_mib() { awk '/^VmRSS:/ { print int($2 / 1024) }' "/proc/$(cat "$WORK/cluster/node$1.pid")/status"; }

# Peaks of memory, a line each second: seconds, then MiB of each node.
watch_memory() {
  local begun=$SECONDS node
  while sleep 1; do
    printf '%d' "$((SECONDS - begun))"
    for node in "${NODES[@]}"; do printf ' %d' "$(memory_mib "$node")"; done
    printf '\n'
  done
}

# Asks like any client while the load runs; writes each answer's status, and the header that a refusal must have.
watch_answers() {
  head --bytes=20000 /dev/zero >"$WORK/value"
  while sleep 0.5; do
    curl --silent --max-time 10 --request PUT --data-binary "@$WORK/value" --output /dev/null \
      --write-out '%{http_code} %header{retry-after}\n' "$(url "$1" /v1/kv/overload)" || printf 'none\n'
  done
}

# row WHAT VALUE VERDICT: a line of the table; the verdict is a condition that awk decides.
row() {
  local verdict=ok
  if ! awk "BEGIN { exit !($3) }"; then
    verdict=FAILED
    FAILED=1
  fi
  printf '  %-34s %26s   %s\n' "$1" "$2" "$verdict"
}

build_binary
cluster up 3 >/dev/null
leader=0
for node in "${NODES[@]}"; do
  if [[ $(header quorate-role "$node") == leader ]]; then leader=$node; fi
done
((leader > 0)) || die "no node leads"

# peak NAME: what is done with clients that wait for their answers.
peak() {
  say "peak, $1: $PEAK_CLIENTS clients that wait, $PEAK_SECONDS s" >&2
  bench "$PEAK_SECONDS" --clients "$PEAK_CLIENTS" >"$WORK/peak-$1"
  number ops_per_s "$WORK/peak-$1"
}
peak "while it fills" >/dev/null
peak_before=$(peak before)
rate=$(awk "BEGIN { printf \"%d\", $FACTOR * $peak_before }")
term_before=$(header quorate-term "$leader")

say "overload: $rate requests/s of $BATCH transfers for $SECONDS_LONG s"
watch_memory >"$WORK/memory" &
watching=$!
watch_answers "$leader" >"$WORK/answers" &
asking=$!
bench "$SECONDS_LONG" --clients "$CLIENTS" --rate "$rate" >"$WORK/overload"
kill "$watching" "$asking"
wait "$watching" "$asking" 2>/dev/null || true
term_after=$(header quorate-term "$leader")
peak_after=$(peak after)
peak=$(awk "BEGIN { printf \"%.1f\", ($peak_before + $peak_after) / 2 }")

goodput=$(number ops_per_s "$WORK/overload")
share=$(awk "BEGIN { printf \"%.0f\", 100 * $goodput / $peak }")
micros() { awk "BEGIN { printf \"%.0f\", $(number "$1" "$2") / 1000 }"; }
# What the generator was told; anything but a refusal that is certain is a fault.
grep --only-matching '"errors":{[^}]*}' "$WORK/overload" | grep --only-matching '"[0-9a-z: _]*":[0-9]*' | tail --lines=+2 >"$WORK/errors" || true
refused=$(awk -F: '/"(429|503) / { sum += $NF } END { print sum + 0 }' "$WORK/errors")
others=$(awk -F: '!/"(429|503) / { sum += $NF } END { print sum + 0 }' "$WORK/errors")
bare=$(awk '($1 == 429 || $1 == 503) && $2 == "" { bare++ } END { print bare + 0 }' "$WORK/answers")
told=$(awk '$1 == 429 || $1 == 503 { told++ } END { print told + 0 }' "$WORK/answers")
odd=$(awk '$1 !~ /^(200|201|429|503)$/ { odd++ } END { print odd + 0 }' "$WORK/answers")

printf '\n  %-34s %26s\n' "ten times too much, $SECONDS_LONG s" ""
row "peak before and after, requests/s" "$(awk "BEGIN { printf \"%.1f, %.1f\", $peak_before, $peak_after }")" "$peak_before > 0 && $peak_after > 0"
row "asked for, requests/s" "$rate" "$rate > 0"
row "refused, requests" "$refused" "$refused > 0"
row "not sent: its client still waited" "$(number skipped "$WORK/overload")" 1
row "done, requests/s (of the mean peak)" "$(awk "BEGIN { printf \"%.1f\", $goodput }") ($share %)" "$share >= 80"
row "done, p50 / p99 / max, ms" "$(micros p50 "$WORK/overload") / $(micros p99 "$WORK/overload") / $(micros max "$WORK/overload")" "$(micros max "$WORK/overload") < 6000"
row "other failures, requests" "$others" "$others == 0"
row "refusals asked by curl, without Retry-After" "$bare of $told" "$bare == 0"
row "other answers to curl" "$odd" "$odd == 0"
row "elections (term before and after)" "$term_before, $term_after" "$term_before == $term_after"
for node in "${NODES[@]}"; do
  # Flat: what it has after a third of the time is what it ends with, give or take a seal of the state.
  read -r early late most < <(awk -v field="$((node + 1))" '
    { all[NR] = $field; if ($field > most) most = $field }
    END { print all[int(NR / 3) + 1], all[NR], most }' "$WORK/memory")
  row "memory of node $node, MiB: third, end, most" "$early, $late, $most" "$late <= 1.25 * $early + 256"
done
sed 's/^/    /' "$WORK/errors"
((FAILED == 0))
