#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, one after the other, from the seeds in the checkout and from what earlier runs have found.
#
#   scripts/fuzz.sh                 each of them for a minute
#   scripts/fuzz.sh 240             each for 240 seconds
#   scripts/fuzz.sh 240 json        one of them
#
# Prints one line of figures for each. Ends with 1 if an input was found that panics, hangs, takes 2 GB or is read otherwise
# than by the reference, and says how to try it again. Everything that it writes is below $KARST_CACHE/fuzz, but for the lock file.
set -euo pipefail
cd "$(dirname "$0")/.."
for_seconds="${1:-60}"
only="${2:-}"
cache="${KARST_CACHE:-$HOME/.cache/karst}/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"

die() { echo "fuzz: $*" >&2; exit 1; }

rustc +nightly --version >/dev/null 2>&1 || die "needs a nightly compiler: rustup toolchain install nightly --profile minimal"
command -v cargo-fuzz >/dev/null || die "needs cargo-fuzz: cargo install cargo-fuzz --locked"
targets="$(sed -nE 's/^name = "([a-z_]+)"$/\1/p' fuzz/Cargo.toml)"
if [ -n "$only" ]; then
  grep -qx "$only" <<<"$targets" || die "there is no target $only; there are $(paste -sd ' ' <<<"$targets")"
  targets="$only"
fi

# The versions that are shipped are fuzzed; cargo adds what only this package needs.
cp Cargo.lock fuzz/Cargo.lock
mkdir -p "$cache"
cargo +nightly fuzz build --target-dir "$cache/target" >"$cache/build.log" 2>&1 ||
  { grep -A 20 "^error" "$cache/build.log" >&2; exit 1; }

status=0
for target in $targets; do
  found="$cache/corpus/$target" artifacts="$cache/artifacts/$target" log="$cache/$target.log"
  mkdir -p "$found" "$artifacts"
  flags=("-max_total_time=$for_seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 "-artifact_prefix=$artifacts/")
  [ -f "fuzz/dictionaries/$target" ] && flags+=("-dict=fuzz/dictionaries/$target")
  program="$cache/target/$host/release/$target"
  result=0
  ASAN_OPTIONS=detect_odr_violation=0 "$program" "$found" "fuzz/corpus/$target" "${flags[@]}" >"$log" 2>&1 </dev/null || result=$?
  executions="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  coverage="$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)"
  echo "fuzz target=$target executions=${executions:-0} seconds=$for_seconds coverage=${coverage#cov: } corpus=$(find "$found" -type f | wc -l)" \
    "result=$([ $result -eq 0 ] && echo ok || echo FOUND)"
  if [ $result -ne 0 ]; then
    status=1
    grep -aE 'panicked at|SUMMARY|ERROR: |Test unit written' "$log" | head -n 8 | cut -c 1-300 >&2
    echo "fuzz: the whole of it is in $log; again: $program ${artifacts}/…" >&2
  fi
done
exit $status
