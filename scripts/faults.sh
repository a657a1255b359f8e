#!/usr/bin/env bash
# Fault tests in the style of Jepsen on real processes: clients write down what they asked and were answered while nodes are
# killed, frozen and cut off; then checkers judge whether everything that was promised was kept.
#
#   scripts/faults.sh run [OPTION...]      one run, judged; `run --help` names the options, `list` workloads and faults
#   scripts/faults.sh shell [OPTION...]    a run in which you say what is done to the cluster, by commands; the options of `run`
#   scripts/faults.sh short [SEED]         three runs side by side from fixed seeds, or from SEED on: half a minute
#   scripts/faults.sh ci [SEED]            every workload under every fault that takes no root, every scenario a few times, and 50 seeds of
#                                          one in the simulation: a quarter of an hour
#   scripts/faults.sh soak [HOURS]         runs drawn from seeds until the time is up (default 1, or 0.5), then the totals
#   scripts/faults.sh totals               what all runs add up to that were left behind, with those recorded of this product
#   scripts/faults.sh record               records the runs that were left behind, a line each, in tests/faults/record.jsonl
#   scripts/faults.sh check DIR            judges a run again
#   scripts/faults.sh replay DIR           a new run with the seed and options of an old one: the same faults are drawn only
#                                          until timing or the leader differs, so try it several times
#   scripts/faults.sh scenario NAME [--tries N] [--side-by-side CLUSTERS]
#                                          steps taken on purpose, again and again: is any read stale?
#   scripts/faults.sh kills [OPTION...]    nodes killed under transfers in batches: 1,000 kills and 1,000,000 transfers unless
#                                          --hits and --transfers say otherwise; then the books are held against all of them
#   scripts/faults.sh cuts [OPTION...]     the same with power cuts: 300 (root; skipped without)
#   scripts/faults.sh full [OPTION...]     the same with disks filled to the last block: 50 (root; skipped without)
#   scripts/faults.sh eio [OPTION...]      the same with disks that fail reads, writes or syncs, tear a write or hang: 300 (with root,
#                                          half of the nodes that end for it lose their power too)
#   scripts/faults.sh points [OPTION...]   the same with nodes that end at each of the crash points of src/mutants.rs, between two steps
#                                          that make something durable, in a build that has them: 400 (with root, half of them
#                                          lose their power there)
#   scripts/faults.sh sim [--seeds N] [--seed S] [--scenario NAME] [--twice N] [--count]
#                                          the cluster in a simulation, where a seed is a run: N seeds on all cores;
#                                          sim --regressions plays those of tests/faults/sim/regressions.txt
#   scripts/faults.sh flips [--flips N] [--nodes N] [--seed S]
#                                          one harm at a time to the files of a node, 40,000 bits among them: is any silent?
#   scripts/faults.sh lint                 lints what is built for the fault tests alone
#   scripts/faults.sh mutants [NAME...]    builds the program with known bugs, one at a time, and demands that each is found
#   scripts/faults.sh list                 workloads, faults and scenarios, and where each of the known dangers (S1 to S18) is played
#   scripts/faults.sh clean                ends nodes that a harness left behind, removes the data of finished runs
#
# A run leaves a directory: the history, applied logs, output of the nodes, report.md, timeline.html and plots; a red one
# also the nodes' data. Of several runs, each green one is told in a line, a red one in full, with the command that does it
# again. Ends with 1 if any promise was broken, or not proven. No privileges needed, but for the fault `power` (root) and for
# `run --network namespaces` (root or user namespaces, iproute2 and nftables; skipped without).
#
#   QUORATE_FAULTS_DIR       where runs are left (default target/faults)
#   QUORATE_FAULTS_SEED      where the seeds of a soak begin (default: random)
#   QUORATE_FAULTS_TOGETHER  how many runs of a soak or of CI are made side by side (default 3)
#   QUORATE_MUTANT           a known bug (src/mutants.rs) to play a simulation or crash points with, or to harm files
#   QUORATE_SIM_TRACE        a file to write every event of a simulation to, when one seed is played
#   QUORATE_BIN              a built binary to use instead of building one
#
# For a start: scripts/faults.sh run --nodes 5 --faults kill,partition; then open timeline.html in the directory it names.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

RUNS=${QUORATE_FAULTS_DIR:-${CARGO_TARGET_DIR:-$ROOT/target}/faults}
HARNESS=

# build_harness [OPTION...]: builds the harness, and the binary with it; notes where it is.
build_harness() {
  say "faults: building, at once if it is built" >&2
  HARNESS=$(cd "$ROOT" && cargo test --release --locked --test faults --quiet --no-run --message-format json-render-diagnostics "$@" |
    sed --quiet 's/.*"executable":"\([^"]*faults-[^"]*\)".*/\1/p' | tail -1) || die "the harness does not build"
}

# The simulation, with the known bugs built in if one is named. The binary is not part of it: it is made again as it was.
sim() {
  local features=simulation
  [[ -z ${QUORATE_MUTANT:-} ]] || features=simulation,mutants
  build_harness --features "$features"
  (cd "$ROOT" && cargo build --release --locked --quiet)
  "$HARNESS" sim --root "$RUNS" "$@"
}

# Harm to files, with the known bug built in if one is named. The binary is then made again as it was.
flips() {
  if [[ -z ${QUORATE_MUTANT:-} ]]; then
    build_harness
    "$HARNESS" flips --root "$RUNS" "$@"
    return
  fi
  build_harness --features mutants
  (cd "$ROOT" && cargo build --release --locked --quiet)
  "$HARNESS" flips --root "$RUNS" --nodes 0 "$@"
}

lint() {
  (cd "$ROOT" && cargo clippy --release --locked --quiet --lib --test faults --features simulation,mutants -- --deny warnings)
}

run() { "$HARNESS" run --root "$RUNS" "$@"; }
shell() { run --by-hand "$@"; }

# A run is mostly waiting, so several are made side by side.
TOGETHER=${QUORATE_FAULTS_TOGETHER:-3}
RUNNING=0 MADE=0 RED=0

# one OPTION...: makes a run; says a line if it is green, all that it said if not.
one() {
  local told began=$SECONDS
  if told=$(run "$@" 2>&1); then
    say "green: $* ($((SECONDS - began)) s, $(sed --quiet 's/^- \([0-9]* operations\) in.*/\1/p' <<<"$told"))"
  else
    say "RED: $*"
    say "$told"
    return 1
  fi
}

# beside OPTION...: makes a run beside those under way, as soon as fewer than TOGETHER are.
beside() {
  while ((RUNNING >= TOGETHER)); do reap; done
  # A group of processes of its own, so that it can be ended as one.
  set -m
  one "$@" </dev/null &
  set +m
  RUNNING=$((RUNNING + 1))
}

reap() {
  wait -n || RED=$((RED + 1))
  RUNNING=$((RUNNING - 1)) MADE=$((MADE + 1))
}

# Waits for the rest; fails if any was red.
all_green() {
  while ((RUNNING > 0)); do reap; done
  say "$MADE runs, $RED red"
  ((RED == 0))
}

# Ends the runs under way with all their processes: each is a group of its own.
end_runs() {
  local job
  for job in $(jobs -p); do kill -TERM -- "-$job" 2>/dev/null || true; done
}

scenario() { "$HARNESS" scenario --root "$RUNS" "$@"; }
kills() { "$HARNESS" kills --root "$RUNS" "$@"; }
cuts() { "$HARNESS" cuts --root "$RUNS" "$@"; }
eio() { "$HARNESS" eio --root "$RUNS" "$@"; }
full() { "$HARNESS" full --root "$RUNS" "$@"; }

# The program with the known bugs and the crash points of src/mutants.rs, beside the one that everybody uses. Built before the
# harness, which builds that one again.
MUTANTS=$RUNS-mutants/quorate
build_mutants() {
  (cd "$ROOT" && cargo build --release --locked --quiet --bin quorate --features mutants)
  mkdir --parents "$RUNS" "$(dirname "$MUTANTS")"
  cp --force "${CARGO_TARGET_DIR:-$ROOT/target}/release/quorate" "$MUTANTS"
  build_harness
}

# What harms files and what simulates runs within the harness: so it is built with the known bugs too, once more as it was, and
# plays those that it then has.
mutants() {
  build_harness --features simulation,mutants
  mkdir --parents "$(dirname "$MUTANTS")"
  cp --force "$HARNESS" "$MUTANTS-harness"
  build_mutants
  "$HARNESS" mutants --root "$RUNS" --binary "$MUTANTS" --harness "$MUTANTS-harness" "$@"
}

# With one of the known bugs beside, if one is named.
points() {
  build_mutants
  QUORATE_MUTANT=${QUORATE_MUTANT:-none} "$HARNESS" points --root "$RUNS" --binary "$MUTANTS" "$@"
}

# What breaks most, and everything that is checked.
short() {
  local seed=${1:-11} faults=kill,pause,partition
  TOGETHER=3
  beside --seed "$seed" --seconds 16 --workload register --faults "$faults"
  beside --seed "$((seed + 1))" --seconds 16 --workload ledger,set --faults "$faults,away" --snapshots
  beside --seed "$((seed + 2))" --seconds 16 --workload bank,session --faults "$faults" --snapshots
  all_green
}

# steps NAME: plays a scenario a few times; says a line if it is green, all that it said if not. Its times are short, so nothing else
# runs beside it.
steps() {
  local told
  if told=$(scenario "$1" --tries 9 --side-by-side 3 2>&1); then
    say "$(tail -1 <<<"$told")"
  else
    say "$told"
    return 1
  fi
}

# Each workload under what is done to processes and under what is done to the network; then all of it at once. Most runs keep
# their logs short, so that who was away comes back by snapshot; the others keep them whole.
ci() {
  local seed=${1:-101} workload faults nodes all=kill,pause,partition,slow,moves,bridge,away
  for workload in register bank ledger set session idle,register; do
    beside --seed "$seed" --seconds 40 --workload "$workload" --faults kill,pause,moves,away --snapshots
    faults=partition,slow,bridge
    case $workload in
      register | bank | session) beside --seed "$((seed + 1))" --seconds 40 --workload "$workload" --faults "$faults" ;;
      *) beside --seed "$((seed + 1))" --seconds 40 --workload "$workload" --faults "$faults,away" --snapshots ;;
    esac
    seed=$((seed + 2))
  done
  for workload in register,set ledger,session bank,idle; do
    for nodes in 3 5; do
      faults=$all
      # In two of them the members change meanwhile, once on 3 nodes and once on 5.
      case $workload-$nodes in register,set-3 | ledger,session-5) faults=$all,members ;; esac
      beside --seed "$seed" --seconds 75 --nodes "$nodes" --workload "$workload" --faults "$faults" --snapshots
      seed=$((seed + 1))
    done
  done
  local verdict=0 name
  all_green || verdict=1
  for name in $("$HARNESS" list | sed --quiet 's/^scenario \([^ ]*\) .*/\1/p'); do
    steps "$name" || verdict=1
  done
  # In a shell of its own: it takes a harness of its own.
  (sim --seeds 50 --scenario bridge-restart) || verdict=1
  return "$verdict"
}

# soak HOURS: each run has its own seed, so any red one can be done again by itself.
soak() {
  local seed=${QUORATE_FAULTS_SEED:-$RANDOM} end nodes faults snapshots
  local mixes=(register bank ledger set session 'register,bank,set' 'ledger,session' 'idle,register')
  end=$(awk -v hours="${1:-1}" -v now="$SECONDS" 'BEGIN { if (hours + 0 <= 0) exit 1; printf "%d", now + hours * 3600 }') ||
    die "soak takes a number of hours, such as 0.5"
  while ((SECONDS < end)); do
    seed=$((seed + 1))
    nodes=$((seed / 8 % 3 == 0 ? 5 : 3))
    # What takes root or libfaketime is told as not possible where that is not there.
    case $((seed % 3)) in
      0) faults=power,kill,partition,slow,disk ;;
      1) faults=kill,pause,partition,slow,moves,bridge ;;
      2) faults=kill,pause,partition,moves,disk,jumps,rates ;;
    esac
    ((seed % 7 > 3)) || faults=$faults,members
    snapshots=(--snapshots)
    if ((seed % 5 == 0)); then snapshots=(); else faults=$faults,away; fi
    beside --seed "$seed" --seconds 60 --clients 30 --nodes "$nodes" --workload "${mixes[seed % ${#mixes[@]}]}" --faults "$faults" \
      "${snapshots[@]}"
  done
  local verdict=0
  all_green || verdict=1
  totals
  return "$verdict"
}

# count_runs totals|record: what runs add up to, or a line for each of them in the record. Those left behind are counted from their
# run.json, so that anybody can add up again; of the record, those of the same product (the source below src/).
RECORD=$ROOT/tests/faults/record.jsonl
count_runs() {
  python3 - "$1" "$RUNS" "$RECORD" "$(git -C "$ROOT" rev-parse --short HEAD:src 2>/dev/null || true)" <<'PYTHON'
import collections, glob, json, os, sys
what, runs, record, product = sys.argv[1:]

def counted(run):
    count = collections.Counter()
    statistics = run["statistics"]
    for kind, phases in statistics["operations"].items():
        for outcomes in phases.values():
            count["answered " + kind] += outcomes.get("ok", 0)
    # What was asked for at level lease and answered as level leader says so, and counts there.
    for level in ["leader", "lease", "follower"]:
        count["reads that reached level " + level] += count_asked(statistics, level)
    fell_back = statistics["lease_reads"].get("leader", 0)
    count["reads that reached level lease"] -= fell_back + statistics["lease_reads"].get("not said", 0)
    count["reads that reached level leader"] += fell_back
    count["lease reads that fell back to level leader"] += fell_back
    for level, reads in statistics["reads_on_faulty_leader"].items():
        count[f"reads that reached level {level}, under a fault on the leader"] += reads
    for fault, seen in statistics["faults"].items():
        count["installed " + fault] += seen["installed"]
        count[f"installed {fault}, on the leader"] += seen["on_leader"]
    count["retries recognised"] += statistics["retries"]
    for kind, snapshots in statistics.get("snapshots", {}).items():
        count[f"snapshots {kind}"] += snapshots
    return count

# Answered reads of every kind by the level that was asked for.
def count_asked(statistics, level):
    kinds = [phases for kind, phases in statistics["operations"].items() if kind.endswith("/" + level)]
    return sum(outcomes.get("ok", 0) for phases in kinds for outcomes in phases.values())

# kills, cuts, eio, full and points: nodes hit, and what was acknowledged meanwhile.
def counted_volume(run):
    count = collections.Counter()
    command, happened = run["command"], run["happened"]
    count[f"{command}: nodes hit"] += happened.get("outages", {}).get("hits", 0)
    count[f"{command}: transfers acknowledged"] += happened.get("load", {}).get("acknowledged", 0)
    for kind in ["lost", "doubled"]:
        count[f"{command}: {kind}"] += sum(one["kind"] == kind for one in run["findings"])
    return count

lines = []
for path in sorted(glob.glob(runs + "/*/volume.json")):
    run = json.load(open(path))
    # Crash points take a build with mutants, of which none is chosen.
    about = run.get("about", {})
    if about.get("mutant", "none") != "none":
        continue
    lines.append({
        "run": os.path.basename(os.path.dirname(path)), "source": about.get("source", "?"), "product": about.get("product", "?"),
        "seed": run["seed"], "nodes": run.get("nodes", 3), "workload": "batches", "faults": [run["command"]],
        "seconds": run["seconds"], "verdict": run["verdict"], "count": counted_volume(run),
    })
for path in sorted(glob.glob(runs + "/*/run.json")):
    run = json.load(open(path))
    plan, about = run["plan"], run["plan"]["about"]
    if "mutant" in about:
        continue
    lines.append({
        "run": os.path.basename(os.path.dirname(path)), "source": about.get("source", "?"), "product": about.get("product", "?"),
        "seed": plan["seed"], "nodes": len(plan["nodes"]), "workload": plan["workload"], "faults": plan["options"]["faults"],
        "seconds": run["statistics"]["seconds"], "verdict": run["verdict"], "count": counted(run),
    })
known = [json.loads(line) for line in open(record)] if os.path.exists(record) else []
if what == "record":
    there = {line["run"] for line in known}
    new = [line for line in lines if line["run"] not in there]
    with open(record, "a") as file:
        file.writelines(json.dumps(line, sort_keys=True) + "\n" for line in new)
    print(f"{len(new)} runs more in {record}")
    sys.exit()
here = {line["run"] for line in lines}
lines += [line for line in known if line["product"] == product and line["run"] not in here]
count = collections.Counter()
for line in lines:
    count.update(line["count"])
verdicts = collections.Counter(green=0, red=0)
verdicts.update(line["verdict"] for line in lines)
told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
hours = sum(line["seconds"] for line in lines) / 3600
products = ", ".join(sorted({line["product"] for line in lines})) or "none"
print(f"{len(lines)} runs, {hours:.2f} hours: {told}; product {products}")
for name, number in sorted(count.items()):
    print(f"  {number:9} {name}")
# The rule of three: what did not happen in n independent trials has, with 95 %, a rate below 3/n.
classes = collections.defaultdict(collections.Counter)
for line in lines:
    classes[line["faults"][0] if line["workload"] == "batches" else "run"][line["verdict"]] += 1
for name, seen in sorted(classes.items()):
    number = sum(seen.values())
    if seen["red"] == 0:
        print(f"{name}: no violation in {number} runs: of such runs fewer than {min(300 / number, 100):.3g} % are red (95 %)")
    else:
        print(f"{name}: {seen['red']} of {number} runs red")
PYTHON
}
totals() { count_runs totals; }
record() { count_runs record; }

# replay DIR: the options of an old run, from its plan. A green run of another binary says nothing about that one's.
replay() {
  local plan=$1/plan.json dir words verdict=0
  dir=$RUNS/$(date +%s)-replay-$$
  words=$(python3 - "$plan" <<'PYTHON'
import json, sys
plan = json.load(open(sys.argv[1]))
options = plan["options"]
if options.get("by_hand"):
    sys.exit("its faults were done by hand: say them again with scripts/faults.sh shell")
words = ["--seed", plan["seed"], "--workload", plan["workload"], "--nodes", len(plan["nodes"])]
words += ["--faults", ",".join(options["faults"])]
for name in ["clients", "seconds", "overlap", "every_ms", "lease_ms"]:
    words += ["--" + name.replace("_", "-"), options[name]]
words += ["--snapshots"] if options.get("snapshots") else []
words += ["--network", options.get("network", "proxies")]
words += ["--node-flag=" + flag for flag in options["node_flags"]]
print(*words)
PYTHON
  ) || die "$1 cannot be replayed"
  # shellcheck disable=SC2086
  run --dir "$dir" $words || verdict=$?
  python3 - "$plan" "$dir/plan.json" <<'PYTHON'
import json, os, sys
if all(map(os.path.exists, sys.argv[1:])):
    old, new = (json.load(open(path))["about"] for path in sys.argv[1:])
    def told(about):
        mutant = f", broken on purpose ({about['mutant']})" if "mutant" in about else ""
        return f"{about.get('binary', '?')[:12]}{mutant}, source {about.get('source', '?')}"
    if (old.get("binary"), old.get("mutant")) != (new.get("binary"), new.get("mutant")):
        print(f"NOTE: another binary. That run: {told(old)}; this one: {told(new)}.")
        print("A green run of this binary says nothing about that one; QUORATE_BIN=FILE replays with the binary FILE.")
        if "mutant" in old:
            print(f"That mutant is played by: scripts/faults.sh mutants {old['mutant']}")
PYTHON
  return "$verdict"
}

# is_process PID PROGRAM: whether the process is still that program, be it built anew since.
is_process() {
  local runs
  runs=$(readlink "/proc/$1/exe" 2>/dev/null) && [[ ${runs% (deleted)} == "$(readlink --canonicalize-missing "$2")" ]]
}

# Ends what a harness left behind, and no run that is under way. The list of a run's processes begins with its harness.
clean() {
  local run process processes pid program mounted
  shopt -s nullglob
  for run in "$RUNS"/*/; do
    processes=()
    [[ ! -f $run/pids ]] || mapfile -t processes <"$run/pids"
    if read -r pid program <<<"${processes[0]:-}" && [[ -n $pid ]] && is_process "$pid" "$program"; then
      say "clean: left alone, it is under way: $run"
      continue
    fi
    for process in "${processes[@]:1}"; do
      read -r pid program <<<"$process"
      if is_process "$pid" "$program"; then
        say "clean: ending node process $pid"
        kill -KILL "$pid" || true
      fi
    done
    rm --force "$run/pids"
    for mounted in "$run"/data/n*/; do
      ! mountpoint --quiet "$mounted" || umount "$mounted"
    done
    rm --recursive --force "$run/data"
  done
}

COMMAND=${1:-help}
shift || true
case $COMMAND in
  check | replay)
    [[ -f ${1:-}/plan.json ]] || die "$COMMAND takes the directory of a run, and '${1:-}' is none: it has no plan.json"
    ;;&
  run | shell | short | ci | soak | replay | scenario | kills | cuts | eio | full)
    build_harness
    trap end_runs EXIT
    "$COMMAND" "$@"
    ;;
  check | list)
    build_harness
    "$HARNESS" "$COMMAND" "$@"
    ;;
  mutants | points | sim | flips | lint) "$COMMAND" "$@" ;;
  clean | totals | record) "$COMMAND" ;;
  help | --help | -h) usage ;;
  *) die "no command $COMMAND; see scripts/faults.sh --help" ;;
esac
