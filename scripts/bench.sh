#!/usr/bin/env bash
# Measures a three-node cluster on this machine, alone or against other systems run the same way: three nodes each, on the
# same loopback and filesystem, every write synced by a majority. Prints one table.
#
#   scripts/bench.sh [options]
#
#   --against LIST    also measure etcd, zookeeper, postgres (comma-separated; Debian packages, installed if missing)
#   --workloads LIST  of kv-put, kv-get-leader, kv-get-lease, kv-get-follower, transfer, transfer-batch (default: all)
#   --clients N       clients at once, each with one request under way (default 64; batches: a sixteenth of them)
#   --seconds N       how long each run is measured, after a second of warming up (default 5)
#   --rounds N        how often everything is measured (default 5)
#   --to leader|all   whom clients ask: the leader (default), or all nodes in turn; reads at follower level always ask all
#   --json FILE|-     also write the table and every run as JSON; with - instead of the table
#   --dir DIR         where the data lies while it runs (default: a new directory in TMPDIR or /tmp)
#
# Runs are interleaved: each round measures each workload on each system, one after the other, and all that is not being
# measured is frozen (SIGSTOP) meanwhile. A ratio is the median of the rounds' ratios. Load and nodes share the machine, so
# what counts is the work a request costs; "other load" is what neither of them used: keep it near zero.
#
# The same closed loop for all, from one thread, in each system's native protocol with connections kept: HTTP/1.1 with a
# connection a client for Quorate, gRPC over 16 connections for etcd (ETCD_CONNECTIONS), a session a client for ZooKeeper,
# prepared statements and a connection a client for PostgreSQL. Values have 256 bytes, in 10,000 keys.
# What a workload is elsewhere: kv-get-leader is a linearizable range in etcd, sync and getData in ZooKeeper, a select on the
# primary in PostgreSQL (which a deposed primary would answer too); kv-get-follower a serializable range, a getData, a
# select on any node. Only Quorate has kv-get-lease.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

CLIENTS=64 SECONDS_EACH=5 ROUNDS=5 TO=leader JSON='' DIR='' AGAINST=''
WORKLOADS=kv-put,kv-get-leader,kv-get-lease,kv-get-follower,transfer,transfer-batch
KEYS=10000 ACCOUNTS=10000 VALUE_BYTES=256
ETCD_CONNECTIONS=${ETCD_CONNECTIONS:-16}

while (($# > 0)); do
  case $1 in
    --help | -h)
      usage
      exit
      ;;
    --against | --workloads | --clients | --seconds | --rounds | --to | --json | --dir)
      (($# > 1)) || die "$1 wants a value"
      ;;
    *) die "$1 is not an option; see --help" ;;
  esac
  case $1 in
    --against) AGAINST=$2 ;;
    --workloads) WORKLOADS=$2 ;;
    --clients) CLIENTS=$2 ;;
    --seconds) SECONDS_EACH=$2 ;;
    --rounds) ROUNDS=$2 ;;
    --to) TO=$2 ;;
    --json) JSON=$2 ;;
    --dir) DIR=$2 ;;
  esac
  shift 2
done
for number in "$CLIENTS" "$SECONDS_EACH" "$ROUNDS"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "$number: a number from 1 up is wanted"
done
[[ $TO == leader || $TO == all ]] || die "--to $TO: leader or all"
IFS=, read -r -a workloads <<<"$WORKLOADS"
IFS=, read -r -a peers <<<"$AGAINST"
for workload in "${workloads[@]}"; do
  [[ $workload =~ ^(kv-put|kv-get-(leader|lease|follower)|transfer|transfer-batch)$ ]] || die "no workload is called $workload"
done
for peer in "${peers[@]}"; do
  [[ $peer =~ ^(etcd|zookeeper|postgres)$ ]] || die "no system is called $peer"
done

# shellcheck source=scripts/peers.sh
source "$ROOT/scripts/peers.sh"

if [[ -n $DIR ]]; then
  mkdir --parents "$DIR"
  DIR=$(realpath "$DIR")
  [[ -z $(ls --almost-all "$DIR") ]] || die "$DIR is not empty"
else
  DIR=$(mktemp --directory --tmpdir quorate-bench.XXXXXX)
fi
RUNS=$DIR/runs
export QUORATE_DIR=$DIR/quorate QUORATE_PORT=${QUORATE_PORT:-$PEER_PORT}
QUORATE_ENDPOINTS=$(for node in 1 2 3; do printf 'http://127.0.0.1:%d,' "$((QUORATE_PORT + node))"; done)
export QUORATE_ENDPOINTS=${QUORATE_ENDPOINTS%,}

# What belongs to a system: its nodes' processes and their children.
family() {
  local pid
  for pid in ${PIDS[$1]}; do
    # One that has ended is missed where it is needed: it has no leader, or the load fails.
    [[ -d /proc/$pid ]] || continue
    printf '%s\n' "$pid"
    cat "/proc/$pid/task/"*/children 2>/dev/null | tr ' ' '\n' | grep . || true
  done
}

# signal_all NAME SIGNAL: to every process of a system.
signal_all() {
  local pid
  for pid in $(family "$1"); do kill "-$2" "$pid" 2>/dev/null || true; done
}

clean_up() {
  local name pid pids
  trap - EXIT
  for name in "${!PIDS[@]}"; do
    # All of it must go on to be able to end, not the first process of each node alone.
    read -r -a pids < <(family "$name" | paste --serial --delimiters ' ') || true
    for pid in ${pids[@]+"${pids[@]}"}; do kill -CONT "$pid" 2>/dev/null || true; done
    # PostgreSQL waits for its clients on SIGTERM; on SIGINT it ends.
    for pid in ${PIDS[$name]}; do
      if [[ $name == postgres ]]; then kill -INT "$pid"; else kill -TERM "$pid"; fi 2>/dev/null || true
    done
    for pid in ${PIDS[$name]} ${pids[@]+"${pids[@]}"}; do
      wait_until 15 not_running "$pid" || kill -KILL "$pid" 2>/dev/null || true
    done
  done
  rm --recursive --force "$DIR"
}
# shellcheck disable=SC2329  # called by wait_until
not_running() { [[ ! -d /proc/$1 ]] || [[ $(cut --delimiter=' ' --fields=3 "/proc/$1/stat" 2>/dev/null) == Z ]]; }

# --- Quorate: the functions a peer has too.

start_quorate() {
  "$ROOT/scripts/cluster.sh" up >&2
  PIDS[quorate]=$(cat "$QUORATE_DIR"/node[123].pid | paste --serial --delimiters ' ')
}

# A leader that has the majority, by a read that needs both.
leader_quorate() {
  local status
  status=$(curl --silent --max-time 2 --output /dev/null --write-out '%{http_code}' \
    "http://127.0.0.1:$((QUORATE_PORT + 1))/v1/kv/none")
  [[ $status == 404 ]]
}
# `quorate bench` does that.
fill_quorate() { :; }

# --- Measuring.

ticks_of() {
  local pid total=0 fields
  for pid in $(family "$1"); do
    # Reading a file that ends meanwhile is no harm.
    fields=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || continue
    read -r -a fields <<<"$fields"
    total=$((total + fields[11] + fields[12] + fields[13] + fields[14]))
  done
  printf '%s' "$total"
}

own_children_ticks() {
  local fields
  read -r -a fields < <(sed 's/.*) //' "/proc/$$/stat")
  printf '%s' "$((fields[13] + fields[14]))"
}

# The whole machine: busy, stolen.
machine_ticks() { awk '/^cpu /{print $2 + $3 + $4 + $7 + $8, $9}' /proc/stat; }

# applies WORKLOAD SYSTEM
applies() {
  case $2:$1 in
    quorate:* | *:kv-put | *:kv-get-leader | *:kv-get-follower | postgres:transfer*) return 0 ;;
    *) return 1 ;;
  esac
}

clients_of() {
  if [[ $1 == transfer-batch ]]; then printf '%s' "$((CLIENTS / 16 > 0 ? CLIENTS / 16 : 1))"; else printf '%s' "$CLIENTS"; fi
}

# load WORKLOAD SYSTEM LEADER-AND-OTHERS: one run, as JSON.
load() {
  local flags=(--clients "$(clients_of "$1")" --seconds "$SECONDS_EACH" --warmup-seconds 1 --value-bytes "$VALUE_BYTES")
  local to=$TO kind=$1
  [[ $1 != kv-get-follower ]] || to=all
  flags+=(--keys "$KEYS" --accounts "$ACCOUNTS")
  if [[ $2 == quorate ]]; then
    [[ $1 != kv-get-* ]] || flags+=(--consistency "${1#kv-get-}") kind=kv-get
    [[ $to == all ]] || flags+=(--leader-only)
    "$(binary)" bench "$kind" "${flags[@]}" --json
  else
    local endpoints=$3
    [[ $to == all && ! ($2 == postgres && $1 != kv-get-follower) ]] || endpoints=${3%%,*}
    "$PEERS" load "$2" "$1" --endpoints "$endpoints" "${flags[@]}" --connections "$ETCD_CONNECTIONS"
  fi
}

# is_idle SYSTEM: whether it takes less than a tenth of a core, over half a second.
is_idle() {
  local before
  before=$(ticks_of "$1")
  sleep 0.5
  (($(ticks_of "$1") - before < $(getconf CLK_TCK) / 20))
}

# measure ROUND WORKLOAD SYSTEM: wakes the system, waits for its leader, runs the load, freezes it again.
measure() {
  local round=$1 workload=$2 system=$3 found leader
  signal_all "$system" CONT
  # A frozen leader may be a deposed one for a moment: let elections settle. And what an earlier workload left to be done,
  # tables to merge above all, is that one's cost.
  sleep 1.5
  wait_until "$PEER_SECONDS" is_idle "$system" || say "bench: $system is still busy before $workload" >&2
  wait_until "$PEER_SECONDS" "leader_$system" >/dev/null || die "$system has no leader: see $DIR"
  leader=$("leader_$system")
  local before after machine_before machine_after start=$EPOCHREALTIME
  before=$(($(ticks_of "$system") + $(own_children_ticks)))
  machine_before=$(machine_ticks)
  found=$(load "$workload" "$system" "$leader")
  machine_after=$(machine_ticks)
  after=$(($(ticks_of "$system") + $(own_children_ticks)))
  signal_all "$system" STOP
  printf '%s\t%s\t%s\t%s\t%s\n' "$round" "$workload" "$system" \
    "$(noise "$machine_before" "$machine_after" "$((after - before))" "$start")" "$(tr --delete '\n' <<<"$found")" >>"$RUNS"
}

# noise BEFORE AFTER OWN START: cores used by others and stolen, tab-separated.
noise() {
  awk -v a="$1" -v b="$2" -v own="$3" -v start="$4" -v end="$EPOCHREALTIME" -v hz="$(getconf CLK_TCK)" 'BEGIN {
    split(a, x); split(b, y); t = (end - start) * hz
    other = (y[1] - x[1] - own) / t
    printf "%.2f\t%.2f", (other > 0 ? other : 0), (y[2] - x[2]) / t
  }'
}

build_binary
PEERS_TARGET=${CARGO_TARGET_DIR:-$ROOT/target}/peers
CARGO_TARGET_DIR=$PEERS_TARGET cargo build --release --quiet --locked --manifest-path "$ROOT/benches/peers/Cargo.toml"
PEERS=$PEERS_TARGET/release/peers

trap clean_up EXIT
trap 'exit 130' INT TERM
VERSIONS[quorate]=$("$(binary)" --version)
systems=(quorate "${peers[@]}")
for peer in "${peers[@]}"; do "install_$peer"; done
for system in "${systems[@]}"; do
  "start_$system"
  wait_until "$PEER_SECONDS" "leader_$system" >/dev/null || die "$system did not start: see $DIR"
  "fill_$system" "$("leader_$system")"
  signal_all "$system" STOP
done
for ((round = 1; round <= ROUNDS; round++)); do
  for workload in "${workloads[@]}"; do
    for system in "${systems[@]}"; do
      if applies "$workload" "$system"; then measure "$round" "$workload" "$system"; fi
    done
  done
  say "bench: round $round of $ROUNDS done" >&2
done

conditions() {
  local system versions=''
  for system in "${systems[@]}"; do versions+=${versions:+, }${VERSIONS[$system]}; done
  printf '%s; %s, %s cores, %s, kernel %s; clients ask %s; %s rounds of %s s\n' \
    "$versions" "$(sed --quiet 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
    "$(findmnt --noheadings --output FSTYPE --target "$DIR")" "$(uname --kernel-release)" "$TO" "$ROUNDS" "$SECONDS_EACH"
}

if [[ $JSON != - ]]; then
  conditions
  "$PEERS" table "$RUNS"
fi
if [[ $JSON == - ]]; then
  "$PEERS" table "$RUNS" --json "$(conditions)"
elif [[ -n $JSON ]]; then
  "$PEERS" table "$RUNS" --json "$(conditions)" >"$JSON"
fi
