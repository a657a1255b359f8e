#!/usr/bin/env bash
# Every node of a cluster is replaced while it works. Three nodes on this machine hold more than a gigabyte; clients post batches of
# transfers one after the other, each by a `quorate transfer batch` that knows all nodes, those that are there and those that will be.
# Node 1 leads, is killed and loses its disk; then nodes 2 and 3 go as they work, each as the leader. Nodes 4, 5 and 6 take their
# places as the README says, each from a snapshot of all of the state. Prints a table and ends with 0 only if every line of it is as
# promised: not one of the clients' requests failed, and every transfer is there exactly once, on each of the new nodes.
#
#   scripts/replace.sh
#
#   QUORATE_REPLACE_STATE_GIB  what each of the new nodes has to get (default 1.5; at least 1 GiB must come as a snapshot)
#   QUORATE_REPLACE_CLIENTS    clients at once (default 2)
#   QUORATE_REPLACE_PORT       first of the ports (default 18400)
#
# Wants about ten times the state of room in TMPDIR.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

STATE_GIB=${QUORATE_REPLACE_STATE_GIB:-1.5}
CLIENTS=${QUORATE_REPLACE_CLIENTS:-2}
PORT=${QUORATE_REPLACE_PORT:-18400}
MIB=$((1 << 20))
# What must have come as a snapshot, in MiB.
SNAPSHOT_MIN=1024
# The log is short, so that nobody who joins can catch up from it alone.
FLAGS="--snapshot-log-bytes 256MiB --log-keep-bytes 64MiB --log-segment-bytes 32MiB"
# The state is values of this length, under keys drawn from so many that hardly one is drawn twice.
VALUE=32768 KEYS=10000000
PUTS=$(awk "BEGIN { printf \"%d\", $STATE_GIB * 1024 * $MIB / $VALUE }")
# Transfers of a client's request, of one unit each, so that what was credited is how many there were.
BATCH=200
# Batches that each client must have had acknowledged between two replacements.
ACKS=20
# How long each of the steps may take, in seconds.
PATIENCE=600

WORK=$(mktemp --directory "${TMPDIR:-/tmp}/quorate-replace.XXXXXX")
FAILED=0
POSTING=()
JOINED=()

build_binary
BIN=$(realpath "$(binary)")

cluster() {
  QUORATE_DIR="$WORK/cluster" QUORATE_PORT=$PORT QUORATE_BIN=$BIN QUORATE_FLAGS=$FLAGS "$ROOT/scripts/cluster.sh" "$@"
}

cleanup() {
  touch "$WORK/stop"
  [[ ${#POSTING[@]} == 0 ]] || wait "${POSTING[@]}" 2>/dev/null || true
  [[ ${#JOINED[@]} == 0 ]] || kill -KILL "${JOINED[@]}" 2>/dev/null || true
  cluster wipe >/dev/null 2>&1 || true
  rm --recursive --force "$WORK"
}
trap cleanup EXIT

client_addr() { printf '127.0.0.1:%d' "$((PORT + $1))"; }
peer_addr() { printf '127.0.0.1:%d' "$((PORT + 100 + $1))"; }
url() { printf 'http://%s%s' "$(client_addr "$1")" "${2:-}"; }
# Whom every client knows from its start.
QUORATE_ENDPOINTS=$(for ((node = 1; node <= 6; node++)); do printf '%s%s' "${EVERYONE:+,}" "$(url "$node")" && EVERYONE=1; done)
export QUORATE_ENDPOINTS

# field NAME: of JSON, the first value of that name, without quotes.
field() { grep --only-matching "\"$1\":[^,}]*" | head --lines 1 | cut --delimiter=: --fields=2- | tr --delete '"'; }
# lead NODE: it leads from now on; notes whether it does.
lead() {
  "$BIN" leader transfer --to "$1" >/dev/null
  LED[$1]=$("$BIN" leader show --output json | field id)
}
# received NODE: MiB that came in as a snapshot.
received() {
  curl --silent "$(url "$1" /metrics)" | awk '/^quorate_snapshot_transfer_bytes_total.direction="in"/ { printf "%d", $2 / 1048576 }'
}

# One batch as CSV: ids that nobody else uses.
batch() {
  awk -v client="$1" -v round="$2" -v batch="$BATCH" 'BEGIN {
    print "id,debit_account,credit_account,amount"
    for (n = 1; n <= batch; n++) printf "c%d-%d-%d,bank,sink,1\n", client, round, n
  }'
}

# post CLIENT: batches one after the other until it is told to stop. How many were done whole stands in a file, how long each took in
# another; a request that failed, or did less than all of it, is kept with what it said.
post() {
  local client=$1 round=0 begun said created exists
  while [[ ! -f $WORK/stop ]]; do
    round=$((round + 1))
    batch "$client" "$round" >"$WORK/batch-$client.csv"
    begun=$(now_ms)
    if said=$("$BIN" transfer batch "$WORK/batch-$client.csv" --output json 2>&1); then
      created=$(field created <<<"$said") exists=$(field exists <<<"$said")
      [[ $((created + exists)) == "$BATCH" ]] || echo "batch $client-$round: $said" >>"$WORK/failed"
    else
      echo "batch $client-$round: $said" >>"$WORK/failed"
    fi
    echo "$(($(now_ms) - begun))" >>"$WORK/took"
    echo "$round" >"$WORK/done-$client.new"
    mv "$WORK/done-$client.new" "$WORK/done-$client"
  done
}

done_by() { cat "$WORK/done-$1" 2>/dev/null || echo 0; }
all_done() { for ((client = 1; client <= CLIENTS; client++)); do done_by "$client"; done | awk '{ sum += $1 } END { print sum }'; }
failures() { if [[ -f $WORK/failed ]]; then wc --lines <"$WORK/failed"; else echo 0; fi; }

# The clients get on: each has some more done than when this was asked.
go_on() {
  local client from=()
  for ((client = 1; client <= CLIENTS; client++)); do from+=("$(done_by "$client")"); done
  for ((client = 1; client <= CLIENTS; client++)); do
    wait_until "$PATIENCE" has_done "$client" "$((from[client - 1] + ACKS))" || die "client $client does not get on"
  done
}
has_done() { (($(done_by "$1") >= $2)); }

# join NODE: starts it, with an empty directory, as the README says.
join() {
  local flags=()
  read -r -a flags <<<"$FLAGS"
  "$BIN" serve --node-id "$1" --data-dir "$WORK/node$1" --listen "$(client_addr "$1")" --peer-listen "$(peer_addr "$1")" \
    "${flags[@]}" </dev/null >>"$WORK/node$1.log" 2>&1 &
  JOINED+=("$!")
}

# replace OLD NEW: notes how long it took.
replace() {
  local begun=$SECONDS
  join "$2"
  say "replace: node $2 takes the place of node $1"
  "$BIN" node replace "$1" --with "$2=$(peer_addr "$2"),$(url "$2")" --timeout "${PATIENCE}s" >"$WORK/replaced-$1" 2>&1 ||
    die "node $1 is not replaced: $(cat "$WORK/replaced-$1") $(tail -n 3 "$WORK/node$2.log")"
  TOOK[$2]=$((SECONDS - begun))
}
declare -A TOOK LED

# has_ended NODE: of those that the cluster began with.
has_ended() { ! readlink "/proc/$(cat "$WORK/cluster/node$1.pid")/exe" >/dev/null; }

# row WHAT VALUE VERDICT: a line of the table; the verdict is a condition that awk decides.
row() {
  local verdict=ok
  if ! awk "BEGIN { exit !($3) }"; then
    verdict=FAILED
    FAILED=1
  fi
  printf '  %-62s %12s   %s\n' "$1" "$2" "$verdict"
}

# The nodes' digests are the same, of a log index that all of them were at after the last transfer.
digests_agree() {
  local said
  said=$(curl --silent --max-time 5 "$(url 4 /v1/cluster/consistency)")
  [[ $(field agree <<<"$said") == true ]] || return 1
  grep --only-matching '"digest_index":"[0-9]*"' <<<"$said" | tr --delete --complement '0-9\n' |
    awk -v least="$LAST_INDEX" '{ count++; if ($1 < least) old = 1 } END { exit !(count == 3 && !old) }'
}

# credited NODE: what the node itself has on the books, if they balance.
credited() {
  local said
  said=$(curl --silent "$(url "$1" '/v1/ledgers/usd/trial-balance?consistency=follower')")
  if [[ $(field balanced <<<"$said") == true ]]; then
    grep --only-matching '"summed":{[^}]*}' <<<"$said" | field credits_posted
  else
    printf 'unbalanced'
  fi
}

cluster up 3 >/dev/null
"$BIN" ledger create usd --asset USD >/dev/null
"$BIN" account create bank --ledger usd >/dev/null
"$BIN" account create sink --ledger usd >/dev/null
lead 1
say "replace: filling $STATE_GIB GiB"
"$BIN" bench kv-put --keys "$KEYS" --value-bytes "$VALUE" --clients 16 --ops "$PUTS" --leader-only --endpoint "$(url 1)" \
  --endpoint "$(url 2)" --endpoint "$(url 3)" >/dev/null
for ((client = 1; client <= CLIENTS; client++)); do
  post "$client" &
  POSTING+=("$!")
done
go_on

lead 1
say "replace: node 1 is killed as it leads, and its disk wiped"
cluster kill 1
rm --recursive --force "$WORK/cluster/node1"
replace 1 4
go_on
for old in 2 3; do
  lead "$old"
  replace "$old" "$((old + 3))"
  wait_until 60 has_ended "$old" || die "node $old was removed and does not end"
  go_on
done
touch "$WORK/stop"
wait "${POSTING[@]}"
POSTING=()

SENT=$(($(all_done) * BATCH))
SINK=$("$BIN" account show sink --output json | field credits_posted)
LAST_INDEX=$("$BIN" trial-balance usd --output json | field index)
AGREE=0
! wait_until 60 digests_agree || AGREE=1
MEMBERS=$("$BIN" node list --output json | grep --only-matching '"id":[0-9]*,"lag_entries":"[0-9]*",[^}]*"role":"voter"' |
  tr --delete --complement '0-9:,\n' | cut --delimiter=, --fields=1 | tr --delete : | paste --serial --delimiters=' ')
LONGEST=$(sort --numeric-sort "$WORK/took" | tail --lines 1)

printf '\n'
for new in 4 5 6; do
  old=$((new - 3))
  row "node $old, which led, replaced by node $new, s" "${TOOK[$new]}" "${LED[$old]} == $old"
  row "  came to node $new as a snapshot, MiB (at least $SNAPSHOT_MIN)" "$(received "$new")" "$(received "$new") >= $SNAPSHOT_MIN"
done
row "voters in the end" "$MEMBERS" "\"$MEMBERS\" == \"4 5 6\""
row "requests of the clients, of $BATCH transfers each" "$(all_done)" "$(all_done) > 0"
row "  of these failed, or not done whole" "$(failures)" "$(failures) == 0"
row "  the longest of them took, ms" "$LONGEST" 1
row "transfers acknowledged, each of one unit" "$SENT" "$SENT > 0"
row "  credited by them: each exactly once" "$SINK" "$SINK == $SENT"
for node in 4 5 6; do
  row "  on the books of node $node itself, which balance" "$(credited "$node")" "\"$(credited "$node")\" == \"$SENT\""
done
row "digests of the three agree at the end" "$AGREE" "$AGREE == 1"
[[ ! -f $WORK/failed ]] || head --lines 5 "$WORK/failed"
((FAILED == 0))
