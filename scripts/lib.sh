# shellcheck shell=bash
# Shared by the scripts: paths, the compiler cache, the binary, and small ways of waiting. Sourced, never run.
#
#   CARGO_TARGET_DIR  where cargo builds (default: target/)
#   QUORATE_BIN       a built binary to use instead of building one

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# RocksDB is thirteen minutes of C++: keep what was compiled, if there is a cache to keep it in.
if command -v ccache >/dev/null 2>&1; then
  export CC=${CC:-ccache cc} CXX=${CXX:-ccache c++}
fi

say() { printf '%s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The header comment of the calling script: what it is and how it is used.
usage() { sed --quiet '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# help_if_asked "$@": of a script without arguments, its usage, if that is what was asked for; any other argument is refused.
help_if_asked() {
  case ${1:-} in
    '') return ;;
    help | --help | -h) usage && exit ;;
    *) die "takes no argument, but was given $1; see --help" ;;
  esac
}

# Where `cargo build --release` puts the binary, or the one that was given.
binary() { printf '%s' "${QUORATE_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release/quorate}"; }

# Where the tool that holds the API against its description is installed: an environment of its own, by version.
SCHEMATHESIS_VERSION=4.32.5
schemathesis() { printf '%s' "${CARGO_TARGET_DIR:-$ROOT/target}/schemathesis-$SCHEMATHESIS_VERSION"; }

# Builds the binary unless one was given. Everything is built in release, so RocksDB is compiled once.
build_binary() {
  if [[ -n ${QUORATE_BIN:-} ]]; then
    [[ -x $QUORATE_BIN ]] || die "QUORATE_BIN=$QUORATE_BIN is not a program"
    return
  fi
  (cd "$ROOT" && cargo build --release --quiet --bin quorate)
}

# wait_until SECONDS COMMAND...: polls until the command succeeds; fails when the time is up.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

# now_ms: wall clock in milliseconds, without starting a process.
now_ms() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '%s' "$((now / 1000))"
}
