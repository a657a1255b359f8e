#!/usr/bin/env bash
# A cluster on this machine: real processes on loopback, one data directory each.
#
#   scripts/cluster.sh up [N]      build, start N nodes (default 3), form the cluster, wait until every node is ready;
#                                  again is fine, and after `down` the nodes come back with their data
#   scripts/cluster.sh down        stop them in good order
#   scripts/cluster.sh status      what each node says of itself
#   scripts/cluster.sh kill N      stop node N as a power cut would (SIGKILL)
#   scripts/cluster.sh stop N      stop node N in good order (SIGTERM)
#   scripts/cluster.sh restart N   start node N again, stopping it first if it runs
#   scripts/cluster.sh pause N     freeze node N (SIGSTOP); `resume N` lets it go on
#   scripts/cluster.sh logs N      print what node N logged
#   scripts/cluster.sh wipe        stop them and delete their data
#
#   QUORATE_DIR   where data, logs and process ids are kept (default .quorate)
#   QUORATE_PORT  node N serves clients on QUORATE_PORT + N and peers on QUORATE_PORT + 100 + N (default 7000)
#   QUORATE_BIN   a built binary to run instead of building one
#   QUORATE_FLAGS more flags for `quorate serve`
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

DIR=$(realpath --canonicalize-missing "${QUORATE_DIR:-$ROOT/.quorate}")
PORT=${QUORATE_PORT:-7000}
NODES_MAX=99
READY_SECONDS=60
STOP_SECONDS=20

client_addr() { printf '127.0.0.1:%d' "$((PORT + $1))"; }
peer_addr() { printf '127.0.0.1:%d' "$((PORT + 100 + $1))"; }
client_url() { printf 'http://%s' "$(client_addr "$1")"; }

# How many nodes this directory holds; 0 if none were ever started.
size() { if [[ -f $DIR/size ]]; then cat "$DIR/size"; else printf 0; fi; }

check_node() {
  local nodes
  nodes=$(size)
  [[ ${1:-} =~ ^[1-9][0-9]*$ && $1 -le $nodes ]] || die "which node? one of 1 to $nodes"
}

# pid_of N: the process id of node N, if it runs. A process id alone proves nothing, it may have been given to a stranger
# since: the process must be our program, on this very data directory.
pid_of() {
  local pid exe
  pid=$(cat "$DIR/node$1.pid" 2>/dev/null) || return 1
  exe=$(readlink "/proc/$pid/exe" 2>/dev/null) || return 1
  [[ $(basename "${exe% (deleted)}") == "$(basename "$(binary)")" ]] || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" | grep --quiet --line-regexp --fixed-strings "$DIR/node$1" || return 1
  printf '%s' "$pid"
}

running() { pid_of "$1" >/dev/null; }
stopped() { ! running "$1"; }

ready() { curl --silent --fail --max-time 2 --output /dev/null "$(client_url "$1")/readyz"; }

# The node answers at all, or has died trying.
answers() { stopped "$1" || curl --silent --max-time 2 --output /dev/null "$(client_url "$1")/livez"; }

# ready, or dead: waiting longer would not help.
settled() { stopped "$1" || ready "$1"; }

start_node() {
  local node=$1 flags=()
  running "$node" && return
  read -r -a flags <<<"${QUORATE_FLAGS:-}"
  nohup "$(binary)" serve --node-id "$node" --data-dir "$DIR/node$node" \
    --listen "$(client_addr "$node")" --peer-listen "$(peer_addr "$node")" ${flags[@]+"${flags[@]}"} \
    </dev/null >>"$DIR/node$node.log" 2>&1 &
  printf '%s\n' "$!" >"$DIR/node$node.pid"
  # Until nohup has become the node, its process id is not yet known to be ours.
  wait_until 5 running "$node" || give_up "$node" "did not start"
}

give_up() {
  tail --lines 20 "$DIR/node$1.log" >&2 || true
  die "node $1 $2; its log is $DIR/node$1.log"
}

wait_ready() {
  wait_until "$READY_SECONDS" settled "$1" || give_up "$1" "was not ready after $READY_SECONDS s"
  running "$1" || give_up "$1" "stopped"
}

# Asks node N to stop in good order, once: a second SIGTERM would stop it at once.
tell_node() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill -CONT "$pid"
  kill -TERM "$pid"
}

await_node() {
  if ! wait_until "$STOP_SECONDS" stopped "$1"; then
    say "node $1 did not stop within $STOP_SECONDS s, killing it"
    kill_node "$1"
  fi
}

stop_node() {
  tell_node "$1"
  await_node "$1"
}

kill_node() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill -KILL "$pid"
  wait_until 10 stopped "$1" || die "node $1 (process $pid) cannot be killed"
}

signal_node() {
  local pid
  pid=$(pid_of "$2") || die "node $2 is not running"
  kill "-$1" "$pid"
}

up() {
  local nodes known node members=()
  known=$(size)
  nodes=${1:-$((known > 0 ? known : 3))}
  [[ $nodes =~ ^[1-9][0-9]*$ && $nodes -le $NODES_MAX ]] || die "how many nodes? 1 to $NODES_MAX"
  ((known == 0 || known == nodes)) || die "$DIR holds a cluster of $known nodes: \`wipe\` it to make another"
  build_binary
  mkdir --parents "$DIR"
  printf '%s\n' "$nodes" >"$DIR/size"
  for ((node = 1; node <= nodes; node++)); do
    start_node "$node"
    members+=(--member "$node=$(peer_addr "$node"),$(client_url "$node")")
  done
  for ((node = 1; node <= nodes; node++)); do
    wait_until "$READY_SECONDS" answers "$node" || give_up "$node" "did not answer"
    running "$node" || give_up "$node" "stopped"
  done
  # Forming a cluster that is formed already does nothing.
  "$(binary)" init --endpoint "$(client_url 1)" "${members[@]}" >/dev/null
  for ((node = 1; node <= nodes; node++)); do wait_ready "$node"; done
  say "$nodes nodes are ready:$(for ((node = 1; node <= nodes; node++)); do printf ' %s' "$(client_url "$node")"; done)"
}

each_node() {
  local node nodes
  nodes=$(size)
  for ((node = 1; node <= nodes; node++)); do "$@" "$node"; done
}

# Tells the nodes of their end all at once, then waits: one after the other, each would hand leadership to the next.
down() {
  each_node tell_node
  each_node await_node
}

state_of() {
  local pid
  if ! pid=$(pid_of "$1"); then
    say "node $1: not running"
  elif [[ $(cut --delimiter=' ' --fields=3 "/proc/$pid/stat") == T ]]; then
    say "node $1: paused (process $pid)"
  else
    say "node $1: running (process $pid) $(client_url "$1")"
  fi
}

# An endpoint that can answer: of a node that runs and is not paused.
any_endpoint() {
  local node nodes
  nodes=$(size)
  for ((node = 1; node <= nodes; node++)); do
    if running "$node" && curl --silent --max-time 1 --output /dev/null "$(client_url "$node")/livez"; then
      client_url "$node"
      return
    fi
  done
  return 1
}

status() {
  local endpoint
  (($(size) > 0)) || die "no cluster in $DIR: scripts/cluster.sh up"
  each_node state_of
  endpoint=$(any_endpoint) || die "no node answers"
  "$(binary)" status --endpoint "$endpoint"
}

wipe() {
  (($(size) > 0)) || return 0
  down
  each_node remove_node
  rm --force "$DIR/size"
  rmdir --ignore-fail-on-non-empty "$DIR"
}

remove_node() { rm --recursive --force "$DIR/node$1" "$DIR/node$1.log" "$DIR/node$1.pid"; }

verb=${1:-}
shift || true
case $verb in
  up) up "$@" ;;
  down) down ;;
  status) status ;;
  kill) check_node "${1:-}" && kill_node "$1" ;;
  stop) check_node "${1:-}" && stop_node "$1" ;;
  restart)
    check_node "${1:-}"
    build_binary
    stop_node "$1"
    start_node "$1"
    wait_ready "$1"
    ;;
  pause) check_node "${1:-}" && signal_node STOP "$1" ;;
  resume) check_node "${1:-}" && signal_node CONT "$1" ;;
  logs) check_node "${1:-}" && cat "$DIR/node$1.log" ;;
  wipe) wipe ;;
  help | --help | -h) usage ;;
  '')
    usage >&2
    exit 2
    ;;
  *)
    usage >&2
    printf '\n%s: %s is not a command\n' "$(basename "$0")" "$1" >&2
    exit 2
    ;;
esac
