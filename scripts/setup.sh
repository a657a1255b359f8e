#!/usr/bin/env bash
# Checks that everything needed to build and test is here, and installs what is missing where it can (Debian, Ubuntu and
# their like, as root or with sudo). Says nothing and changes nothing when all is there.
#
#   scripts/setup.sh
#
# Rust itself is not installed, only checked: see https://rustup.rs.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

# has_libclang: the library that generates the bindings to RocksDB, where bindgen looks for it.
has_libclang() {
  local found
  found=$(find ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib \
    -maxdepth 1 -name 'libclang*.so*' -print -quit 2>/dev/null || true)
  [[ -n $found ]]
}

has() { command -v "$1" >/dev/null 2>&1; }

# has_venv: Python with all that a virtual environment needs, which Debian packages apart.
has_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null; }

# What is missing, as Debian package names. Only those marked optional may stay missing.
missing_packages() {
  has c++ || say g++
  has clang || say clang
  has_libclang || say libclang-dev
  has curl || say curl
  has shellcheck || say shellcheck
  has strace || say strace
  has_venv || say python3-venv
  [[ ${1:-} != required ]] || return 0
  has ccache || say ccache
  # For the fault tests, which do without what is not there: wrong clocks, and a network of packet filters.
  has faketime || say faketime
  PATH=$PATH:/usr/sbin has ip || say iproute2
  PATH=$PATH:/usr/sbin has nft || say nftables
}

# as_root COMMAND...: runs it with the rights to install packages, or fails without asking for a password nobody can type.
as_root() {
  if [[ $(id --user) -eq 0 ]]; then
    "$@"
  elif has sudo && { [[ -t 0 ]] || sudo --non-interactive true 2>/dev/null; }; then
    sudo "$@"
  else
    return 1
  fi
}

install_packages() {
  has apt-get || return 1
  say "setup: installing $*"
  as_root apt-get update --quiet=2 &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends "$@" >/dev/null
}

mapfile -t packages < <(missing_packages)
if ((${#packages[@]} > 0)); then
  install_packages "${packages[@]}" || true
  mapfile -t packages < <(missing_packages required)
  if ((${#packages[@]} > 0)); then
    die "please install (Debian's names): ${packages[*]}
  a C++ compiler and libclang build RocksDB; curl, shellcheck, strace and Python are used by the scripts"
  fi
fi

needed=$(sed --quiet 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
has cargo || die "Rust is not installed: get $needed or newer from https://rustup.rs"
version=$(cd "$ROOT" && rustc --version | cut --delimiter=' ' --fields=2)
if [[ $(printf '%s\n%s\n' "$needed" "$version" | sort --version-sort | head -1) != "$needed" ]]; then
  die "Rust $version is too old: $needed or newer is needed (rustup update)"
fi
for component in fmt clippy; do
  cargo "$component" --version >/dev/null 2>&1 ||
    die "cargo $component is missing: rustup component add rustfmt clippy"
done

# Holds the API against its description. In an environment of its own, removed if the installation breaks off.
if [[ ! -x $(schemathesis)/bin/schemathesis ]]; then
  say "setup: installing schemathesis $SCHEMATHESIS_VERSION"
  mkdir --parents "$(dirname "$(schemathesis)")"
  rm --recursive --force "$(schemathesis)"
  python3 -m venv "$(schemathesis)"
  "$(schemathesis)/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS_VERSION" ||
    { rm --recursive --force "$(schemathesis)" && die "schemathesis cannot be installed from PyPI"; }
fi
