#!/usr/bin/env bash
# The test suite, step by step, with a heading and the elapsed time for each and a summary at the end.
#
#   scripts/test.sh               all steps
#   scripts/test.sh kafka tidy    only these
#
# environment  CI=true       a skipped step or test fails the run
#              TEST=name     only tests whose name contains this (unit, doc, kafka, registry, sql); that there is none is a failure
#              SEEDS=n       how many seeds the two simulations try (FROM=n: from which on)
#              FAULTS=1      a line for each test of docs/reliability.md: how often it tried its fault
#              KILLS=n       how often the crash harness ends the process (SEED=n: with which choices)
#              VERBOSE=1     all of cargo's lines, not only what is not ok
#
# A test that cannot run here says so by appending a line, what and why, to the file named by KARST_TEST_SKIPPED.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
all_steps=(format clippy build unit doc simulation simulate kafka crash registry sql tidy oracle fraud demo)
steps=("$@")
[ $# -gt 0 ] || steps=("${all_steps[@]}")

scratch="$(mktemp -d)"
export KARST_TEST_SKIPPED="$scratch/skipped" KARST_TEST_TRIED="$scratch/tried"
: >"$KARST_TEST_SKIPPED"
[ -n "${SEEDS:-}" ] && export KARST_SIM_SEEDS="$SEEDS"
[ -n "${FROM:-}" ] && export KARST_SIM_FROM="$FROM"
filter=()
[ -n "${TEST:-}" ] && filter=("$TEST")

clean_up() {
  [ -n "${KARST_TEST_KAFKA_RUN:-}" ] && scripts/kafka.sh stop
  [ -n "${KARST_TEST_REGISTRY_RUN:-}" ] && scripts/registry.sh stop
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }
skip() { echo "$*" >>"$KARST_TEST_SKIPPED"; echo "skipped: $*"; }

# ---- the steps; each returns non-zero if it failed ----

step_format() { cargo fmt --all --check -- --files-with-diff || { echo '`make fmt` formats these files'; return 1; }; }

step_clippy() { cargo clippy --workspace --all-targets -- -D warnings; }

step_build() { cargo test --workspace --no-run; }

# Every command selects the whole workspace: selecting one package would build its dependencies again with fewer features.
step_unit() {
  local targets name
  targets="$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
own = {"simulation", "simulate", "kafka", "crash", "registry", "sql", "tidy"}  # these have steps of their own
names = {t["name"] for p in json.load(sys.stdin)["packages"] for t in p["targets"] if "test" in t["kind"]} - own
print(*sorted(names))')" || return 1
  local selected=(--lib --bins)
  for name in $targets; do selected+=(--test "$name"); done
  cargo test --workspace --no-fail-fast "${selected[@]}" -- "${filter[@]}"
}

step_doc() { cargo test --workspace --no-fail-fast --doc -- "${filter[@]}"; }

step_simulation() { cargo test --workspace --test simulation; }

step_simulate() { cargo test --workspace --test simulate -- --nocapture --test-threads=1; }

with_kafka() { # runs the command behind it while a broker answers
  if ! scripts/kafka.sh install >/dev/null; then
    skip "$step: Apache Kafka could not be installed (above: why)"
    return 0
  fi
  export KARST_TEST_KAFKA_RUN="$scratch/kafka"
  KARST_TEST_KAFKA="$(KAFKA_SECURE=1 scripts/kafka.sh start)" || return 1
  export KARST_TEST_KAFKA
  echo "Apache Kafka answers at $KARST_TEST_KAFKA"
  "$@"
  local result=$?
  [ $result -eq 0 ] || { echo "the broker's last words:"; tail -n 20 "$KARST_TEST_KAFKA_RUN/broker.log" | cut -c 1-300; }
  scripts/kafka.sh stop
  unset KARST_TEST_KAFKA KARST_TEST_KAFKA_RUN
  return $result
}

step_kafka() {
  scripts/flights_data.sh >/dev/null || return 1
  # One at a time: some of them restart the broker.
  with_kafka cargo test --workspace --no-fail-fast --test kafka -- --test-threads=1 "${filter[@]}"
}

step_crash() {
  [ -n "${KILLS:-}" ] && export KARST_CRASH_KILLS="$KILLS"
  [ -n "${SEED:-}" ] && export KARST_CRASH_SEED="$SEED"
  with_kafka cargo test --workspace --test crash -- --nocapture --test-threads=1
}

step_registry() {
  if ! scripts/registry.sh install >/dev/null; then
    skip 'registry: Apicurio Registry could not be installed (above: why)'
    return 0
  fi
  export KARST_TEST_REGISTRY_RUN="$scratch/registry"
  KARST_TEST_REGISTRY="$(scripts/registry.sh start)" || return 1
  export KARST_TEST_REGISTRY
  echo "Apicurio Registry answers at $KARST_TEST_REGISTRY"
  # One at a time: one of them kills the registry.
  cargo test --workspace --no-fail-fast --test registry -- --test-threads=1 "${filter[@]}"
  local result=$?
  [ $result -eq 0 ] || { echo "the registry's last words:"; tail -n 20 "$KARST_TEST_REGISTRY_RUN/registry.log" | cut -c 1-300; }
  scripts/registry.sh stop
  unset KARST_TEST_REGISTRY KARST_TEST_REGISTRY_RUN
  return $result
}

step_sql() {
  if ! KARST_TEST_DUCKDB="$(scripts/venv.sh tests/sql/requirements.txt)"; then
    skip 'sql: DuckDB could not be installed (above: why)'
    return 0
  fi
  scripts/flights_data.sh >/dev/null || return 1
  export KARST_TEST_DUCKDB
  cargo test --workspace --no-fail-fast --test sql -- --nocapture "${filter[@]}"
  local result=$?
  unset KARST_TEST_DUCKDB
  return $result
}

step_tidy() { cargo test --workspace --test tidy; }

step_oracle() { scripts/flights_data.sh >/dev/null && python3 examples/flights/oracle.py --check >"$scratch/oracle.json"; }

step_fraud() { make --no-print-directory fraud; }

demo() { # with these settings
  make --no-print-directory demo KEEP=0 PORT=0 "$@" | tee -a "$scratch/demo.out"
  [ "${PIPESTATUS[0]}" -eq 0 ] || return 1
  [[ "$(tail -n 1 "$scratch/demo.out")" == "demo records="* ]] ||
    { echo 'the last line of the demo is not "demo records=..."'; return 1; }
}

step_demo() {
  demo || return 1
  demo LATE_LANE=dead_letter DEADLINE=90m || return 1 # shows the late events by position
  if ! scripts/registry.sh install >/dev/null; then
    skip 'demo in Avro: Apicurio Registry could not be installed (above: why)'
    return 0
  fi
  demo FORMAT=avro DEADLINE=6h # its schemas come from a registry, and some of its events are late
}

# ---- running them ----

# Of cargo test's lines the thousands of `test ... ok` are left out, unless VERBOSE=1; the log file has them all.
show() { if [ "${VERBOSE:-0}" = 1 ]; then cat; else grep --line-buffered -vE '^test .* \.\.\. ok$|^$|^running 0 tests' || true; fi; }

failed_steps=() lines=()
begin=$SECONDS
total=${#steps[@]} number=0

# The native library first, in the open: it takes minutes on a new machine, and every step needs it.
. scripts/env.sh || { echo 'test: cargo or the native library is not ready (above: why)'; exit 1; }

for step in "${steps[@]}"; do
  number=$((number + 1))
  if ! declare -F "step_$step" >/dev/null; then
    echo "test: no step $step; there are: ${all_steps[*]}" >&2
    exit 2
  fi
  echo
  echo "=== $number/$total $step (at $(clock $((SECONDS - begin))))"
  since=$SECONDS
  skips=$(wc -l <"$KARST_TEST_SKIPPED")
  : >"$scratch/$step.log"
  # In this shell, not a subshell behind a pipe: a step's exports must reach clean_up.
  exec 3> >(tee "$scratch/$step.log" | show)
  shown=$!
  "step_$step" >&3 2>&1 </dev/null 3>&-
  result=$?
  exec 3>&-
  wait "$shown" 2>/dev/null
  took=$((SECONDS - since))
  verdict=ok
  [ "$(wc -l <"$KARST_TEST_SKIPPED")" -gt "$skips" ] && verdict='ok, with something skipped'
  if [ $result -ne 0 ]; then
    verdict=FAILED
    failed_steps+=("$step")
  fi
  echo "--- $step: $verdict ($(clock $took))"
  lines+=("$(printf '  %-11s %7s  %s' "$step" "$(clock $took)" "$verdict")")
done

# ---- summary ----

results() { cat "$@" 2>/dev/null | grep -aE 'test result: '; } # the closing lines of cargo test
count() { results "$scratch"/*.log | grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'; } # the numbers before the word $1
echo
echo "=== summary ($(clock $((SECONDS - begin))))"
printf '%s\n' "${lines[@]}"
grep -haE '^test .*\.\.\. FAILED' "$scratch"/*.log | sed 's/^/  failed: /'
grep -haE '^simulate seeds=' "$scratch"/simulate.log 2>/dev/null | sed 's/^/  /'
grep -haE '^crash kills=' "$scratch"/crash.log 2>/dev/null | sed 's/^/  /'
each=()
[ "${FAULTS:-0}" = 1 ] && each=(--each)
scripts/faults.py "$scratch" "$KARST_TEST_TRIED" "${each[@]}" | sed 's/^/  /'
[ -f "$scratch/demo.out" ] && grep -aE '^demo records=' "$scratch/demo.out" | sed 's/^/  /'
while read -r line; do echo "  skipped: $line"; done <"$KARST_TEST_SKIPPED"
grep -haE '^test .*\.\.\. ignored' "$scratch"/*.log | sed -E 's/^test (.*) \.\.\. ignored,?/  ignored: \1/'
skipped=$(wc -l <"$KARST_TEST_SKIPPED")
ignored=$(count ignored)
passed=$(count passed)
failed=$(count failed)

status=0
if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
  echo "  with CI=true nothing may be skipped"
  status=1
fi
filtered="$(results "$scratch"/{unit,doc,kafka,registry,sql}.log)"
if [ -n "${TEST:-}" ] && [ -n "$filtered" ] && ! grep -qE ' [1-9][0-9]* (passed|failed|ignored)' <<<"$filtered"; then
  echo "  TEST=$TEST: no test of these steps has that in its name"
  status=1
fi
[ ${#failed_steps[@]} -eq 0 ] || { echo "  failed: ${failed_steps[*]}"; status=1; }
# Steps that are no cargo test (format, clippy, demo) count as failures too, so that this line never looks well when it is not.
[ $status -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo
echo "$passed passed, $failed failed, $((skipped + ignored)) skipped"
exit $status
