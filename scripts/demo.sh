#!/usr/bin/env bash
# Quorate in two minutes: three nodes on this machine keep a ledger while several clients move money; the leader is killed
# in the middle. Afterwards the books are compared with what the clients were told, and one account is read at the three
# levels of consistency. Ends with 0 only if every claim it prints was checked and held.
#
#   scripts/demo.sh
#
#   QUORATE_DEMO_PORT     first of the ports (default 17000)
#   QUORATE_DEMO_CLIENTS  how many clients work at the same time (default 4)
#   QUORATE_DEMO_STEP     transfers to acknowledge before, during and after the crash (default 700)
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

CLIENTS=${QUORATE_DEMO_CLIENTS:-4}
STEP=${QUORATE_DEMO_STEP:-700}
PORT=${QUORATE_DEMO_PORT:-17000}
NODES=(1 2 3)
PHASE_SECONDS=120
ROUNDS_MAX=20
JSON="Content-Type: application/json"

WORK=$(mktemp --directory "${TMPDIR:-/tmp}/quorate-demo.XXXXXX")
CLIENT_PIDS=()

cluster() { QUORATE_DIR="$WORK/cluster" QUORATE_PORT=$PORT QUORATE_BIN=$(binary) "$ROOT/scripts/cluster.sh" "$@"; }

cleanup() {
  touch "$WORK/stop"
  if ((${#CLIENT_PIDS[@]} > 0)); then kill "${CLIENT_PIDS[@]}" 2>/dev/null || true; fi
  cluster wipe >/dev/null 2>&1 || true
  rm --recursive --force "$WORK"
}
trap cleanup EXIT

# Colours only where somebody looks.
BOLD='' GREEN='' RED='' PLAIN=''
if [[ -t 1 ]]; then BOLD=$'\033[1m' GREEN=$'\033[32m' RED=$'\033[31m' PLAIN=$'\033[0m'; fi
heading() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN"; }
tick() { printf '  %s✓%s %s\n' "$GREEN" "$PLAIN" "$*"; }
note() { printf '    %s\n' "$*"; }
cross() {
  printf '  %s✗%s %s\n' "$RED" "$PLAIN" "$*"
  exit 1
}

url() { printf 'http://127.0.0.1:%d%s' "$((PORT + $1))" "$2"; }

# get NODE PATH: the answer's body.
get() { curl --silent --show-error --fail-with-body --max-time 10 "$(url "$1" "$2")"; }

# post NODE PATH JSON: the answer's body.
post() { curl --silent --show-error --fail-with-body --max-time 10 --header "$JSON" --data "$3" "$(url "$1" "$2")"; }

# field NAME: the first text of that name in the JSON on standard input.
field() { grep --only-matching "\"$1\": *\"[^\"]*\"" | head -1 | cut --delimiter='"' --fields=4; }

# header NAME FILE: the value of a header in a file of headers.
header() { grep --ignore-case "^$1:" "$2" | head -1 | cut --delimiter=' ' --fields=2 | tr --delete '\r'; }

# leader: the id of the node that leads, as one that can be asked says.
leader() {
  local node
  for node in "${NODES[@]}"; do
    curl --silent --max-time 2 --output /dev/null --dump-header "$WORK/livez" "$(url "$node" /livez)" || continue
    if [[ $(header Quorate-Role "$WORK/livez") == leader ]]; then
      printf '%s' "$node"
      return
    fi
  done
  return 1
}

credits() { get "$1" "/v1/accounts/$2?consistency=$3" | field credits_posted; }

# ---- clients ---------------------------------------------------------------------------------------------------------

# send NODE BODY FILE: tries a transfer once and says what is known of it: done, not_applied or unknown.
send() {
  local status exit=0
  status=$(curl --silent --max-time 4 --output "$3" --write-out '%{http_code}' --header "$JSON" --data "$2" \
    "$(url "$1" '/v1/transfers?timeout=3s')") || exit=$?
  case $exit:$status in
    0:201) printf 'done created' ;;
    0:200) printf 'done found' ;;
    0:*) if grep --quiet '"outcome": *"not_applied"' "$3"; then printf 'not_applied'; else printf 'unknown'; fi ;;
    7:*) printf 'not_applied' ;; # no connection: nothing was sent
    *) printf 'unknown' ;;       # the connection broke, or no answer came
  esac
}

# client NUMBER: moves money from the bank to its own wallet until told to stop. Every transfer has an id of the client's
# choosing; a transfer whose fate is unknown is sent again with the same id, and again, until an answer settles it.
client() {
  local me=$1 sequence id amount node verdict how unsure
  node=$((me % ${#NODES[@]}))
  for ((sequence = 1; ; sequence++)); do
    [[ -e $WORK/stop ]] && return
    id="client$me-$sequence" amount=$((sequence % 9 + 1)) unsure=
    while true; do
      verdict=$(send "${NODES[$node]}" "{\"id\":\"$id\",\"debit_account\":\"bank\",\"credit_account\":\"wallet$me\",
        \"amount\":\"$amount\",\"code\":1}" "$WORK/answer.$me")
      how=${verdict#done } verdict=${verdict% *}
      [[ $verdict == unknown ]] && unsure=yes
      [[ $verdict == "done" ]] && break
      node=$(((node + 1) % ${#NODES[@]}))
      sleep 0.02
    done
    printf '%s %s %s\n' "$EPOCHREALTIME" "$id" "$amount" >>"$WORK/acknowledged.$me"
    [[ -n $unsure ]] && printf '%s %s\n' "$id" "$how" >>"$WORK/unknown.$me"
  done
}

acknowledged() { cat "$WORK"/acknowledged.* 2>/dev/null | wc --lines; }
acknowledged_at_least() { (($(acknowledged) >= $1)); }

# run_until COUNT: lets the clients work until that many transfers are acknowledged.
run_until() {
  wait_until "$PHASE_SECONDS" acknowledged_at_least "$1" ||
    cross "only $(acknowledged) of $1 transfers were acknowledged within $PHASE_SECONDS s"
}

# ---- proofs ----------------------------------------------------------------------------------------------------------

# applied_at_least NODE INDEX: the node's own state has come so far.
applied_at_least() {
  curl --silent --max-time 5 --output /dev/null --dump-header "$WORK/applied" \
    "$(url "$1" '/v1/accounts/bank?consistency=follower')" || return 1
  (($(header Quorate-Index "$WORK/applied") >= $2))
}

# missing NODE: the acknowledged transfers that the node itself does not know, one a line.
missing() {
  local id
  while read -r _ id _; do
    printf 'url = "%s"\noutput = /dev/null\n' "$(url "$1" "/v1/transfers/$id?consistency=follower")"
  done <"$WORK/acknowledged" >"$WORK/questions"
  curl --silent --config "$WORK/questions" --write-out '%{http_code} %{url}\n' | grep --invert-match '^200 ' || true
}

check_node() {
  local node=$1 me lost expected found
  lost=$(missing "$node")
  [[ -z $lost ]] || cross "node $node does not have: $lost"
  for ((me = 1; me <= CLIENTS; me++)); do
    expected=$(awk '{sum += $3} END {print sum + 0}' "$WORK/acknowledged.$me")
    found=$(credits "$node" "wallet$me" follower)
    [[ $found == "$expected" ]] ||
      cross "node $node has $found in wallet$me, the client was told of $expected"
  done
  tick "node $node: all $(acknowledged) are there, and its wallets hold exactly their sum: none lost, none twice"
}

# longest_gap: the longest time between two acknowledgements, all clients together, in milliseconds.
longest_gap() {
  sort --numeric-sort "$WORK/acknowledged" |
    awk 'NR > 1 && $1 - last > longest {longest = $1 - last} {last = $1} END {printf "%d", longest * 1000}'
}

# read_at NODE LEVEL NAME: reads the account at a level; the answer goes to files of that name.
read_at() {
  curl --silent --verbose --max-time 20 --output "$WORK/$3.body" --dump-header "$WORK/$3.head" \
    "$(url "$1" "/v1/accounts/wallet1?consistency=$2")" 2>"$WORK/$3.trace"
}

# row LEVEL NODE NAME: one line of the table of reads.
row() {
  printf '    %-10s node %s    %6s    %s\n' "$1" "$2" "$(field credits_posted <"$WORK/$3.body")" \
    "$(header Quorate-Index "$WORK/$3.head")"
}

sent() { grep --quiet '^> GET' "$WORK/$1.trace" 2>/dev/null; }

# levels ROUND: freezes a follower, writes, asks the frozen follower at two levels, and lets it go on: its first work is to
# answer, before it has caught up. Succeeds if the follower read came out stale, which its index proves.
levels() {
  local leader follower written pids=()
  leader=$(leader)
  follower=$((leader % ${#NODES[@]} + 1))
  cluster pause "$follower"
  post "$leader" /v1/transfers "{\"id\":\"levels-$1\",\"debit_account\":\"bank\",\"credit_account\":\"wallet1\",
    \"amount\":\"100\",\"code\":1}" >"$WORK/write.body"
  written=$(field index <"$WORK/write.body")
  read_at "$leader" leader fresh
  read_at "$leader" lease lease
  read_at "$follower" follower stale &
  pids+=("$!")
  read_at "$follower" leader strong &
  pids+=("$!")
  wait_until 5 sent stale || cross "the request was not sent"
  wait_until 5 sent strong || cross "the request was not sent"
  cluster resume "$follower"
  wait "${pids[@]}"
  (($(header Quorate-Index "$WORK/stale.head") < written)) || return 1
  note "level      asked     balance    as of index"
  row leader "$leader" fresh
  row lease "$leader" lease
  row follower "$follower" stale
  row leader "$follower" strong
  for name in fresh lease strong; do
    (($(header Quorate-Index "$WORK/$name.head") >= written)) || cross "a strong read was stale: $name"
  done
  tick "100 more were written at index $written: three answers include them, the follower's own is from before and says so"
  wait_until 10 applied_at_least "$follower" "$written" || cross "node $follower did not catch up"
  read_at "$follower" follower later
  row follower "$follower" later
  tick "a moment later the follower has caught up"
}

# ---- the story -------------------------------------------------------------------------------------------------------

heading "Building"
"$ROOT/scripts/setup.sh"
build_binary
tick "$(binary)"

heading "Three nodes"
cluster up 3 >/dev/null
LEADER=$(leader)
tick "node $LEADER leads, two follow; each keeps its data in a directory of its own"
post "$LEADER" /v1/ledgers '{"id":"usd","asset":"USD","scale":2}' >/dev/null
post "$LEADER" /v1/accounts '{"id":"bank","ledger":"usd","code":1}' >/dev/null
for ((me = 1; me <= CLIENTS; me++)); do
  post "$LEADER" /v1/accounts "{\"id\":\"wallet$me\",\"ledger\":\"usd\",\"code\":2}" >/dev/null
done
tick "a ledger in US dollars, a bank, $CLIENTS wallets"

heading "$CLIENTS clients move money, and the leader is killed"
for ((me = 1; me <= CLIENTS; me++)); do
  client "$me" &
  CLIENT_PIDS+=("$!")
done
run_until "$STEP"
tick "$(acknowledged) transfers acknowledged, through all three nodes"
LEADER=$(leader)
cluster kill "$LEADER"
tick "kill -9 node $LEADER, the leader"
run_until $((2 * STEP))
tick "node $(leader) leads now; $(acknowledged) acknowledged, two nodes are enough"
cluster restart "$LEADER"
tick "node $LEADER is back with its data"
run_until $((3 * STEP))
touch "$WORK/stop"
wait "${CLIENT_PIDS[@]}"
CLIENT_PIDS=()
cat "$WORK"/acknowledged.* >"$WORK/acknowledged"
cat "$WORK"/unknown.* 2>/dev/null >"$WORK/unknown" || true
tick "$(acknowledged) transfers acknowledged in all"

heading "Writes were unavailable for"
tick "$(longest_gap) ms, the longest time without an acknowledgement: noticing that the leader is gone, and an election"

heading "What nobody could know at first"
UNKNOWN=$(wc --lines <"$WORK/unknown")
FOUND=$(grep --count ' found$' "$WORK/unknown" || true)
tick "$UNKNOWN transfers got no clear answer and were sent again with the same id:"
note "$FOUND of them had been done, $((UNKNOWN - FOUND)) had not; either way each is done once"

heading "The books, node by node"
INDEX=$(curl --silent --output /dev/null --dump-header - "$(url "$(leader)" /v1/accounts/bank)" >"$WORK/last" &&
  header Quorate-Index "$WORK/last")
for node in "${NODES[@]}"; do
  wait_until 30 applied_at_least "$node" "$INDEX" || cross "node $node did not catch up"
  check_node "$node"
done
get "$(leader)" /v1/ledgers/usd/trial-balance >"$WORK/trial"
grep --quiet '"balanced": *true' "$WORK/trial" || cross "the books do not balance: $(cat "$WORK/trial")"
tick "trial balance: debits $(field debits_posted <"$WORK/trial"), credits $(field credits_posted <"$WORK/trial"), difference zero"

heading "One account, read at three levels, while a follower lags"
for ((round = 1; ; round++)); do
  levels "$round" && break
  ((round < ROUNDS_MAX)) || cross "the follower caught up before it answered, $ROUNDS_MAX times"
done

heading "After a stop in good order, each node's files are checked on their own"
cluster down
for node in "${NODES[@]}"; do
  "$(binary)" verify "$WORK/cluster/node$node" >"$WORK/verify.$node" 2>&1 || cross "node $node: $(cat "$WORK/verify.$node")"
  digest=$(grep --only-matching 'digest [0-9a-f]*' "$WORK/verify.$node" | cut --delimiter=' ' --fields=2)
  printf '%s\n' "$digest" >>"$WORK/digests"
  tick "node $node: log and state are whole; digest of all it ever applied: ${digest:0:16}..."
done
(($(sort --unique "$WORK/digests" | wc --lines) == 1)) || cross "the nodes differ"
tick "the same on all three"

printf '\nNothing was lost, doubled or made up.\n'
