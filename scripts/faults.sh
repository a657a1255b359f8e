#!/usr/bin/env bash
# Fault tests in the style of Jepsen on real processes: clients write down what they asked and were answered while nodes are
# killed, frozen and cut off; then checkers judge whether everything that was promised was kept.
#
#   scripts/faults.sh run [OPTION...]      one run, judged; `run --help` names the options, `list` workloads and faults
#   scripts/faults.sh short                two fixed seeds: under a minute, no privileges
#   scripts/faults.sh ci                   every workload under every fault, some minutes
#   scripts/faults.sh soak [HOURS]         runs drawn from seeds until the time is up (default 1), totals at the end
#   scripts/faults.sh totals               what all runs that were left behind add up to
#   scripts/faults.sh check DIR            judges a run again
#   scripts/faults.sh replay DIR           a new run with the seed and options of an old one
#   scripts/faults.sh list                 workloads and faults
#   scripts/faults.sh clean                ends nodes that a harness left behind, removes the data of finished runs
#
# A run leaves a directory: the history, applied logs, output of the nodes, report.md, timeline.html and plots. The first
# lines say the seed and the command that does it again. Ends with 1 if any promise was broken, or not proven.
#
#   QUORATE_FAULTS_DIR   where runs are left (default target/faults)
#   QUORATE_BIN          a built binary to use instead of building one
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUNS=${QUORATE_FAULTS_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/faults}
HARNESS=

# Builds the harness, and the binary with it; notes where it is.
build_harness() {
  HARNESS=$(cd "$ROOT" && cargo test --release --locked --test faults --no-run --message-format json 2>/dev/null |
    sed --quiet 's/.*"executable":"\([^"]*faults-[^"]*\)".*/\1/p' | tail -1)
  [[ -x $HARNESS ]] || die "the harness does not build: cargo test --release --test faults --no-run"
}

harness() { (cd "$ROOT" && "$HARNESS" "$@"); }

run() { harness run --root "$RUNS" "$@"; }

# A few fixed seeds: everything that is checked, under what breaks most. Under a minute together.
short() {
  run --seed 11 --seconds 12 --workload register --faults kill,pause,partition
  run --seed 12 --seconds 12 --workload ledger,set --faults kill,partition,pause
}

ci() {
  local seed=100
  for workload in register bank ledger set session; do
    for faults in kill,pause partition,slow kill,pause,partition,slow,moves; do
      seed=$((seed + 1))
      run --seed "$seed" --seconds 30 --workload "$workload" --faults "$faults"
    done
  done
  run --seed 120 --seconds 30 --workload idle,register --faults pause,kill,moves
  run --seed 121 --seconds 30 --nodes 5 --workload register,bank,set --faults kill,pause,partition,slow,moves
}

# soak HOURS: each run has its own seed, so any red one can be done again by itself.
soak() {
  local hours=${1:-1} end runs=0 red=0 seed nodes
  local mixes=(register bank ledger set session 'register,bank,set' 'ledger,session' 'idle,register')
  end=$((SECONDS + hours * 3600))
  seed=${QUORATE_FAULTS_SEED:-$RANDOM}
  mkdir --parents "$RUNS"
  while ((SECONDS < end)); do
    seed=$((seed + 1))
    nodes=$((seed % 4 == 0 ? 5 : 3))
    if ! run --seed "$seed" --seconds 60 --nodes "$nodes" --workload "${mixes[seed % ${#mixes[@]}]}" \
      --faults kill,pause,partition,slow,moves >"$RUNS/last.txt" 2>&1; then
      red=$((red + 1))
      cat "$RUNS/last.txt"
    fi
    runs=$((runs + 1))
    say "soak: $runs runs, $red red; the last: $(sed --quiet 's/^RUN //p' "$RUNS/last.txt")"
  done
  totals
  ((red == 0))
}

# What the runs add up to: from each run.json, so that anybody can add up again.
totals() {
  python3 - "$RUNS" <<'PYTHON'
import collections, glob, json, sys
count = collections.Counter()
verdicts, builds, seconds = collections.Counter(), set(), 0
for path in sorted(glob.glob(sys.argv[1] + "/*/run.json")):
    run = json.load(open(path))
    verdicts[run["verdict"]] += 1
    builds.add(run["plan"]["about"].get("source", "?"))
    statistics = run["statistics"]
    seconds += statistics["seconds"]
    for kind, phases in statistics["operations"].items():
        for outcomes in phases.values():
            count["answered " + kind] += outcomes.get("ok", 0)
    for level, reads in statistics["reads_on_faulty_leader"].items():
        count["of these, under a fault on the leader: read/" + level] += reads
    for fault, seen in statistics["faults"].items():
        count["installed " + fault] += seen["installed"]
        count["on the leader " + fault] += seen["on_leader"]
    count["retries recognised"] += statistics["retries"]
print(f"{sum(verdicts.values())} runs, {seconds / 3600:.2f} hours: {dict(verdicts)}; source {', '.join(sorted(builds))}")
for name, number in sorted(count.items()):
    print(f"  {number:9} {name}")
PYTHON
}

# replay DIR: the options of an old run, from its plan.
replay() {
  local plan=$1/plan.json
  [[ -f $plan ]] || die "$1 is not the directory of a run"
  # shellcheck disable=SC2046
  run $(python3 - "$plan" <<'PYTHON'
import json, sys
plan = json.load(open(sys.argv[1]))
options = plan["options"]
words = ["--seed", plan["seed"], "--workload", plan["workload"], "--nodes", len(plan["nodes"])]
words += ["--faults", ",".join(options["faults"])]
for name in ["clients", "seconds", "overlap", "every_ms", "lease_ms"]:
    words += ["--" + name.replace("_", "-"), options[name]]
words += ["--node-flag=" + flag for flag in options["node_flags"]]
print(*words)
PYTHON
  )
}

# Ends what a harness left behind: only processes that are still the binary they were started from.
clean() {
  local pids pid binary
  shopt -s nullglob
  for pids in "$RUNS"/*/pids; do
    while read -r pid binary; do
      if [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$(readlink --canonicalize "$binary")" ]]; then
        say "clean: ending node process $pid"
        kill -KILL "$pid" || true
      fi
    done <"$pids"
    rm --force "$pids"
  done
  local mounted
  for mounted in "$RUNS"/*/data/n*; do
    if mountpoint --quiet "$mounted"; then umount "$mounted"; fi
  done
  rm --recursive --force "$RUNS"/*/data
}

COMMAND=${1:-help}
shift || true
case $COMMAND in
  run | short | ci | soak | replay)
    build_harness
    "$COMMAND" "$@"
    ;;
  check | list)
    build_harness
    harness "$COMMAND" "$@"
    ;;
  clean | totals) "$COMMAND" ;;
  help | --help | -h) usage ;;
  *) die "no command $COMMAND; see scripts/faults.sh --help" ;;
esac
