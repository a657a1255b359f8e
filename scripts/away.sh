#!/usr/bin/env bash
# A node that was away for long, and a state that is larger than its memory. Three nodes on this machine hold some gigabytes; one is
# killed, and while the others write on for many times the log that they keep, it is away; then it comes back by snapshot with little
# memory, while the writes go on. Prints a table and ends with 0 only if every line of it is as promised: the log of the others stays
# within its bound all the time, the node comes back by a snapshot of all of the state, and it never needs more memory than its caches
# and 256 MiB.
#
#   scripts/away.sh
#
#   QUORATE_AWAY_LOG_GIB    written while the node is away (default 10); the state keeps it all, as its journal
#   QUORATE_AWAY_STATE_GIB  bytes of values that are not overwritten (default 0.5)
#   QUORATE_AWAY_PORT       first of the ports (default 18200)
#
# Wants about five times both of room in TMPDIR. As root, and with cgroups, the node that comes back is held
# to its memory by the kernel, page cache and all; otherwise its own peak is looked at.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

LOG_GIB=${QUORATE_AWAY_LOG_GIB:-10}
STATE_GIB=${QUORATE_AWAY_STATE_GIB:-0.5}
PORT=${QUORATE_AWAY_PORT:-18200}
MIB=$((1 << 20))
# What a node is told to hold in memory, in MiB, and what it may need beside.
STATE_CACHE=64 SEAL_JOURNAL=64 LOG_CACHE=32 BESIDE=256
BUDGET=$((STATE_CACHE + SEAL_JOURNAL + LOG_CACHE + BESIDE))
# When a snapshot is made, what is kept behind it, and the size of a file, in MiB.
SNAPSHOT_LOG=256 LOG_KEEP=128 SEGMENT=64
FLAGS="--state-cache-bytes ${STATE_CACHE}MiB --seal-journal-bytes ${SEAL_JOURNAL}MiB --log-cache-bytes ${LOG_CACHE}MiB \
  --snapshot-log-bytes ${SNAPSHOT_LOG}MiB --log-keep-bytes ${LOG_KEEP}MiB --log-segment-bytes ${SEGMENT}MiB"
# Values are this long: large enough that the log grows fast, small enough that a state of them has many rows.
VALUE=32768
KEYS=$(awk "BEGIN { printf \"%d\", $STATE_GIB * 1024 * $MIB / $VALUE }")
# Puts a second while the node is coming back: what is written during the transfer stays in the log until it is over.
BACK_RATE=100
# How much longer a log may be than when the next snapshot is due: one that is being made keeps what came meanwhile.
LOG_MAX=$((2 * SNAPSHOT_LOG + LOG_KEEP + 2 * SEGMENT))

WORK=$(mktemp --directory "${TMPDIR:-/tmp}/quorate-away.XXXXXX")
GROUP=
FAILED=0

build_binary
REAL=$(realpath "$(binary)")
# Node 3 is started through this once there is a group to hold it.
mkdir "$WORK/bin"
cat >"$WORK/bin/$(basename "$REAL")" <<SH
#!/bin/sh
[ ! -f "$WORK/group" ] || echo \$\$ >"\$(cat "$WORK/group")/cgroup.procs"
exec "$REAL" "\$@"
SH
chmod +x "$WORK/bin/$(basename "$REAL")"

cluster() {
  QUORATE_DIR="$WORK/cluster" QUORATE_PORT=$PORT QUORATE_BIN="$WORK/bin/$(basename "$REAL")" QUORATE_FLAGS=$FLAGS \
    "$ROOT/scripts/cluster.sh" "$@"
}

cleanup() {
  [[ -z ${WATCHING:-} ]] || kill "$WATCHING" 2>/dev/null || true
  [[ -z ${WRITING:-} ]] || kill "$WRITING" 2>/dev/null || true
  cluster wipe >/dev/null 2>&1 || true
  [[ -z $GROUP ]] || rmdir "$GROUP" 2>/dev/null || true
  rm --recursive --force "$WORK"
}
trap cleanup EXIT

# The group that bounds the memory of what is in it, if there can be one: cgroups of either version.
make_group() {
  local name=quorate-away-$$ limit=$((BUDGET * MIB))
  if [[ -d /sys/fs/cgroup/memory ]] && mkdir "/sys/fs/cgroup/memory/$name" 2>/dev/null; then
    GROUP=/sys/fs/cgroup/memory/$name
    echo "$limit" >"$GROUP/memory.limit_in_bytes"
  elif grep --quiet memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null && mkdir "/sys/fs/cgroup/$name" 2>/dev/null; then
    GROUP=/sys/fs/cgroup/$name
    echo "$limit" >"$GROUP/memory.max"
    echo 0 >"$GROUP/memory.swap.max" 2>/dev/null || true
  fi
}

url() { printf 'http://127.0.0.1:%d%s' "$((PORT + $1))" "${2:-}"; }
# metric NODE NAME: what the node measures; nothing if it does not answer.
metric() { curl --silent --max-time 5 "$(url "$1" /metrics)" | awk -v name="$2" '$1 == name { printf "%.0f", $2 }'; }
# How many processes of the group the kernel killed for memory.
killed() { awk '$1 == "oom_kill" { sum += $2 } END { print sum + 0 }' "$GROUP"/memory.{oom_control,events} 2>/dev/null || echo 0; }
log_mib() { echo $(($(metric "$1" quorate_log_bytes) / MIB)); }
peak_mib() { awk '/^VmHWM:/ { print int($2 / 1024) }' "/proc/$(cat "$WORK/cluster/node3.pid")/status"; }

# Puts of the two nodes that stay; a report as JSON. In an array, so that one in the background is the program itself.
WRITE=("$REAL" bench kv-put --endpoint "$(url 1)" --endpoint "$(url 2)" --leader-only --json --keys "$KEYS" --value-bytes "$VALUE"
  --clients 16)

# The longest log of the nodes that stay, sampled as long as this runs.
watch_logs() {
  local most=0 node mib
  while sleep 1; do
    for node in 1 2; do
      mib=$(log_mib "$node" 2>/dev/null) || continue
      ((mib <= most)) || most=$mib
    done
    echo "$most" >"$WORK/log-max"
  done
}

# row WHAT VALUE VERDICT: a line of the table; the verdict is a condition that awk decides.
row() {
  local verdict=ok
  if ! awk "BEGIN { exit !($3) }"; then
    verdict=FAILED
    FAILED=1
  fi
  printf '  %-58s %14s   %s\n' "$1" "$2" "$verdict"
}

gone() { ! kill -0 "$(cat "$WORK/cluster/node3.pid")" 2>/dev/null; }
installed() { [[ $(metric 3 quorate_snapshots_installed_total) -ge 1 ]]; }
# Has come to where it was to come, or will not.
is_in() { gone || installed; }
is_through() { gone || caught_up; }
# Caught up: it lacks no more than was written in a blink.
caught_up() {
  local own other
  own=$(metric 3 quorate_raft_applied_index) other=$(metric "$LEADER" quorate_raft_applied_index)
  [[ -n $own && -n $other ]] && ((own + 1000 >= other))
}

cluster up 3 >/dev/null
LEADER=1
"$REAL" leader transfer --to 1 --endpoint "$(url 1)" >/dev/null
say "away: filling $STATE_GIB GiB"
"${WRITE[@]}" --ops "$KEYS" >"$WORK/fill"
cluster kill 3
say "away: node 3 is gone; writing $LOG_GIB GiB"
watch_logs &
WATCHING=$!
OPS=$(awk "BEGIN { printf \"%d\", $LOG_GIB * 1024 * $MIB / $VALUE }")
BEGUN=$SECONDS
"${WRITE[@]}" --ops "$OPS" >"$WORK/away"
AWAY=$((SECONDS - BEGUN))
PURGED=$(metric "$LEADER" quorate_raft_purged_index)

make_group
[[ -z $GROUP ]] || echo "$GROUP" >"$WORK/group"
say "away: node 3 is back with ${GROUP:+no more than }$BUDGET MiB${GROUP:+, held by the kernel}; writing on"
"${WRITE[@]}" --seconds 36000 --rate "$BACK_RATE" >"$WORK/back" &
WRITING=$!
BEGUN=$SECONDS
cluster restart 3 >"$WORK/restart" 2>&1 || true
wait_until 900 is_in || die "no snapshot was installed in 900 s: $(tail -n 3 "$WORK/cluster/node3.log")"
wait_until 900 is_through || die "node 3 does not catch up: $(tail -n 3 "$WORK/cluster/node3.log")"
! gone || die "node 3 ended, held to $BUDGET MiB; the kernel killed $(killed) for memory: $(tail -n 3 "$WORK/cluster/node3.log")"
BACK=$((SECONDS - BEGUN))
PEAK=$(peak_mib)
SIZE=$(($(metric 3 quorate_state_bytes) / MIB))
RECEIVED=$(curl --silent "$(url 3 /metrics)" | awk '/^quorate_snapshot_transfer_bytes_total.direction="in"/ { printf "%d", $2 / 1048576 }')
kill "$WRITING" "$WATCHING"
wait "$WRITING" "$WATCHING" 2>/dev/null || true

printf '\n'
row "written while node 3 was away, MiB, in $AWAY s" "$((OPS * VALUE / MIB))" "$OPS > 0"
row "purged meanwhile: entries that node 3 lacks" "$PURGED" "$PURGED > 0"
row "longest log of the others, MiB (at most $LOG_MAX)" "$(cat "$WORK/log-max")" "$(cat "$WORK/log-max") <= $LOG_MAX"
row "received as a snapshot, MiB" "$RECEIVED" "$RECEIVED >= 0.9 * ($STATE_GIB + $LOG_GIB) * 1024"
row "its state then, MiB" "$SIZE" "$SIZE > 0"
row "from its start to having caught up, under writes, s" "$BACK" 1
row "most memory of node 3, MiB (at most $BUDGET)" "$PEAK" "$PEAK <= $BUDGET"
((FAILED == 0))
