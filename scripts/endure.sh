#!/usr/bin/env bash
# Half an hour in which snapshots come and go all the time, and whether a node then needs more memory than it was told to hold. Three
# nodes on this machine with small caches and short logs, under puts and batches of transfers at a steady rate. Node 1 leads all the
# time. Node 2 is frozen again and again until the others have purged what it lacks, so that one and the same process gets snapshot
# after snapshot; node 3 is killed for as long instead, and loses its state every third time. Every node's memory is looked at each
# second. Prints a table and ends with 0 only if every line of it is as promised: no node ever needed more than its caches and
# 256 MiB, and 15 % of that beside; memory did not grow; and snapshots did come and go.
#
#   scripts/endure.sh
#
#   QUORATE_ENDURE_MINUTES    how long (default 30)
#   QUORATE_ENDURE_STATE_GIB  how large the state is before (default 0.5); it grows by about 6 GiB an hour
#   QUORATE_ENDURE_PORT       first of the ports (default 18600)
#
# Wants about ten times the state of room in TMPDIR.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

MINUTES=${QUORATE_ENDURE_MINUTES:-30}
STATE_GIB=${QUORATE_ENDURE_STATE_GIB:-0.5}
PORT=${QUORATE_ENDURE_PORT:-18600}
MIB=$((1 << 20))
# What a node is told to hold in memory, in MiB, and what it may need beside.
STATE_CACHE=64 SEAL_JOURNAL=64 LOG_CACHE=32 BESIDE=256
BUDGET=$((STATE_CACHE + SEAL_JOURNAL + LOG_CACHE + BESIDE))
ALLOWED=$((BUDGET * 115 / 100)) GROWTH=$((BUDGET * 15 / 100))
# Snapshots every few seconds, and so little log behind them that who was away for half a minute needs one.
FLAGS="--state-cache-bytes ${STATE_CACHE}MiB --seal-journal-bytes ${SEAL_JOURNAL}MiB --log-cache-bytes ${LOG_CACHE}MiB \
  --snapshot-log-bytes 8MiB --log-keep-bytes 4MiB --log-segment-bytes 2MiB"
VALUE=8192 PUT_RATE=100
KEYS=$(awk "BEGIN { printf \"%d\", $STATE_GIB * 1024 * $MIB / $VALUE }")
# Transfers of a request, of one unit each, and the pause after each, in seconds.
BATCH=1000 PAUSE=0.5
# How long a node may take to come back, and how long all of them then run undisturbed, in seconds.
PATIENCE=120 CALM=5
# Entries that may be on their way to a node that freezes, at most.
IN_FLIGHT=500
# A snapshot must have come in at least this often, in the mean, in seconds.
IN_EVERY=60

WORK=$(mktemp --directory "${TMPDIR:-/tmp}/quorate-endure.XXXXXX")
FAILED=0
PUTTING='' POSTING='' LOOKING=''

build_binary
BIN=$(realpath "$(binary)")

cluster() {
  QUORATE_DIR="$WORK/cluster" QUORATE_PORT=$PORT QUORATE_BIN=$BIN QUORATE_FLAGS=$FLAGS "$ROOT/scripts/cluster.sh" "$@"
}

cleanup() {
  touch "$WORK/stop"
  [[ -z $PUTTING ]] || kill "$PUTTING" 2>/dev/null || true
  [[ -z $POSTING ]] || wait "$POSTING" 2>/dev/null || true
  [[ -z $LOOKING ]] || wait "$LOOKING" 2>/dev/null || true
  cluster wipe >/dev/null 2>&1 || true
  rm --recursive --force "$WORK"
}
trap cleanup EXIT

url() { printf 'http://127.0.0.1:%d%s' "$((PORT + $1))" "${2:-}"; }
QUORATE_ENDPOINTS="$(url 1),$(url 2),$(url 3)"
export QUORATE_ENDPOINTS

# field NAME: of JSON, the first value of that name, without quotes.
field() { grep --only-matching "\"$1\":[^,}]*" | head --lines 1 | cut --delimiter=: --fields=2- | tr --delete '"'; }
# metric NODE NAME: what the node measures; nothing if it does not answer.
metric() { curl --silent --max-time 5 "$(url "$1" /metrics)" | awk -v name="$2" '$1 == name { printf "%.0f", $2 }'; }

# look NODE: a line of what it needs and of what it did since its start: seconds, node, process, memory now and at most, of it its own
# and of files (MiB), snapshots made and installed, MiB of them sent and received. A node that is frozen says nothing of the latter.
look() {
  local pid status
  pid=$(cat "$WORK/cluster/node$1.pid")
  status=$(awk '/^VmRSS/ { now = $2 } /^VmHWM/ { most = $2 } /^RssAnon/ { own = $2 } /^RssFile/ { files = $2 }
    END { if (now) printf "%d %d %d %d", now / 1024, most / 1024, own / 1024, files / 1024 }' "/proc/$pid/status" 2>/dev/null) || return 0
  [[ -n $status ]] || return 0
  printf '%s %s %s %s %s\n' "$((SECONDS - BEGUN))" "$1" "$pid" "$status" "$(curl --silent --max-time 0.3 "$(url "$1" /metrics)" | awk '
    $1 == "quorate_snapshots_made_total" { made = $2 } $1 == "quorate_snapshots_installed_total" { installed = $2 }
    /^quorate_snapshot_transfer_bytes_total.direction="out"/ { out = $2 } /^quorate_snapshot_transfer_bytes_total.direction="in"/ { in_ = $2 }
    END { printf "%d %d %d %d", made, installed, out / 1048576, in_ / 1048576 }')" >>"$WORK/samples"
}

look_on() {
  while [[ ! -f $WORK/stop ]]; do
    for node in 1 2 3; do look "$node"; done
    sleep 0.9
  done
}

# Batches of transfers one after the other. A request that failed, or did less than all of it, is kept with what it said.
post() {
  local round=0 said
  while [[ ! -f $WORK/stop ]]; do
    round=$((round + 1))
    awk -v round="$round" -v batch="$BATCH" 'BEGIN {
      print "id,debit_account,credit_account,amount"
      for (n = 1; n <= batch; n++) printf "e%d-%d,bank,sink,1\n", round, n
    }' >"$WORK/batch.csv"
    said=$("$BIN" transfer batch "$WORK/batch.csv" --output json 2>&1) || echo "batch $round: $said" >>"$WORK/failed"
    [[ $(($(field created <<<"$said") + $(field exists <<<"$said"))) == "$BATCH" ]] || echo "batch $round: $said" >>"$WORK/failed"
    echo "$round" >"$WORK/posted"
    sleep "$PAUSE"
  done
}

# lacks NODE INDEX: whether the others have purged what comes after that index, so that the node cannot catch up from their logs; not
# even from what was on its way to it when it froze.
lacks() {
  local node
  for node in 1 2 3; do
    [[ $node == "$1" ]] || (($(metric "$node" quorate_raft_purged_index) > $2 + IN_FLIGHT)) || return 1
  done
}
# is_back NODE: it lacks no more than was written in a blink.
is_back() {
  local own other
  own=$(metric "$1" quorate_raft_applied_index) other=$(metric 1 quorate_raft_applied_index)
  [[ -n $own && -n $other ]] && ((own + 100 >= other))
}

# away NODE HOW: keeps it away until it needs a snapshot, by `freeze` or `kill`; `lose` is a kill that costs it its state.
away() {
  local last
  last=$(metric "$1" quorate_raft_last_log_index)
  if [[ $2 == freeze ]]; then
    cluster pause "$1"
  else
    cluster kill "$1"
    [[ $2 != lose ]] || rm --recursive "$WORK/cluster/node$1/state"
  fi
  wait_until "$PATIENCE" lacks "$1" "$last" || die "the logs of the others are not purged"
  if [[ $2 == freeze ]]; then cluster resume "$1"; else cluster restart "$1" >"$WORK/restart" 2>&1 || true; fi
  wait_until "$PATIENCE" is_back "$1" || die "node $1 is not back: $(tail -n 3 "$WORK/cluster/node$1.log")"
}

# row WHAT VALUE VERDICT: a line of the table; the verdict is a condition that awk decides.
row() {
  local verdict=ok
  if ! awk "BEGIN { exit !($3) }"; then
    verdict=FAILED
    FAILED=1
  fi
  printf '  %-62s %12s   %s\n' "$1" "$2" "$verdict"
}

# most NODE COLUMN: the largest value of a column of the samples.
most() { awk -v node="$1" -v of="$2" '$2 == node && $of > most { most = $of } END { print most + 0 }' "$WORK/samples"; }
# rank NODE PERCENT: so many percent of the samples of memory are at most this.
rank() {
  awk -v node="$1" '$2 == node { print $4 }' "$WORK/samples" | sort --numeric-sort |
    awk -v percent="$2" '{ all[NR] = $1 } END { at = int((NR * percent + 99) / 100); print all[at] }'
}
# mean NODE FROM TO: the mean of its memory between these seconds.
mean() {
  awk -v node="$1" -v from="$2" -v to="$3" '$2 == node && $1 >= from && $1 <= to { sum += $4; count++ }
    END { printf "%d", count ? sum / count : 0 }' "$WORK/samples"
}
# total NODE COLUMN: of what is counted from the start of a process, the sum over all of them.
total() {
  awk -v node="$1" -v of="$2" '$2 == node && $of > most[$3] { most[$3] = $of } END { for (pid in most) sum += most[pid]; print sum + 0 }' \
    "$WORK/samples"
}

cluster up 3 >/dev/null
"$BIN" ledger create usd --asset USD >/dev/null
"$BIN" account create bank --ledger usd >/dev/null
"$BIN" account create sink --ledger usd >/dev/null
"$BIN" leader transfer --to 1 >/dev/null
say "endure: filling $STATE_GIB GiB"
WRITE=("$BIN" bench kv-put --leader-only --keys "$KEYS" --value-bytes "$VALUE" --clients 8)
"${WRITE[@]}" --ops "$KEYS" >/dev/null

END=$((MINUTES * 60))
say "endure: $MINUTES minutes; a node may need $BUDGET MiB, and 15 % of that"
BEGUN=$SECONDS
look_on &
LOOKING=$!
post &
POSTING=$!
"${WRITE[@]}" --rate "$PUT_RATE" --seconds "$((END + 3600))" >"$WORK/puts" 2>&1 &
PUTTING=$!
ROUNDS=0
HOW=(kill kill lose)
while ((SECONDS - BEGUN < END)); do
  [[ $("$BIN" leader show --output json | field id) == 1 ]] || "$BIN" leader transfer --to 1 >/dev/null
  if ((ROUNDS % 2 == 0)); then away 2 freeze; else away 3 "${HOW[$((ROUNDS / 2 % 3))]}"; fi
  ROUNDS=$((ROUNDS + 1))
  sleep "$CALM"
done
touch "$WORK/stop"
kill -0 "$PUTTING" || die "the puts ended: $(cat "$WORK/puts")"
kill "$PUTTING"
wait "$PUTTING" 2>/dev/null || true
wait "$POSTING" "$LOOKING"
PUTTING='' POSTING='' LOOKING=''

SENT=$(($(cat "$WORK/posted") * BATCH))
SINK=$("$BIN" account show sink --output json | field credits_posted)
FAILURES=$(if [[ -f $WORK/failed ]]; then wc --lines <"$WORK/failed"; else echo 0; fi)
LASTED=$((SECONDS - BEGUN)) TENTH=$((END / 10))
INSTALLED=$(($(total 2 9) + $(total 3 9)))

printf '\n'
row "seconds, in which a node was away" "$LASTED, $ROUNDS" "$LASTED >= $END && $ROUNDS > 1"
row "size of the state in the end, MiB" "$(($(metric 1 quorate_state_bytes) / MIB))" 1
for node in 1 2 3; do
  row "node $node: looked at" "$(awk -v node="$node" '$2 == node' "$WORK/samples" | wc --lines)" 1
  row "  most memory, MiB (at most $ALLOWED)" "$(most "$node" 5)" "$(most "$node" 5) <= $ALLOWED"
  row "  of it when looked at: its own, and of files" "$(most "$node" 6), $(most "$node" 7)" 1
  row "  99 % of the looks found at most" "$(rank "$node" 99)" 1
  FIRST=$(mean "$node" 0 "$TENTH") LAST=$(mean "$node" "$((LASTED - TENTH))" "$LASTED")
  row "  mean of the first and of the last tenth (at most $GROWTH up)" "$FIRST, $LAST" "$LAST <= $FIRST + $GROWTH"
  row "  snapshots made and installed" "$(total "$node" 8), $(total "$node" 9)" "$(total "$node" 8) > 0"
  row "  of them sent and received, MiB" "$(total "$node" 10), $(total "$node" 11)" 1
done
row "snapshots that came in (at least $((END / IN_EVERY)))" "$INSTALLED" "$INSTALLED >= $((END / IN_EVERY))"
row "  to node 2, one process all the time, and to node 3" "$(total 2 9), $(total 3 9)" "$(total 2 9) > 0 && $(total 3 9) > 0"
row "requests of $BATCH transfers, of them failed" "$(cat "$WORK/posted"), $FAILURES" "$FAILURES == 0"
row "transfers acknowledged, and credited by them" "$SENT, $SINK" "$SENT == $SINK"
[[ ! -f $WORK/failed ]] || head --lines 5 "$WORK/failed"
((FAILED == 0))
