#!/usr/bin/env bash
# A real schema registry for the tests: Apicurio Registry, through its Confluent API, on loopback, with its data in a
# temporary folder.
#
# It comes from Maven Central by its coordinates, once per machine. Nothing else of the machine is touched; `stop` leaves
# no trace but the download.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${KARST_CACHE:-$HOME/.cache/karst}"
run="${KARST_TEST_REGISTRY_RUN:-${TMPDIR:-/tmp}/karst-registry-$(id -u)}"
wait_seconds="${REGISTRY_WAIT:-60}"
# The newest that runs on Java 17: 3.3 is compiled for 21.
version="${REGISTRY_VERSION:-3.0.9}"
home="$cache/registry/$version"
path=apis/ccompat/v7 # Confluent's API

usage() {
  cat <<'HELP'
usage: scripts/registry.sh COMMAND

  install      unpacks the registry into the cache, if it is not there
  start        starts it and waits until it answers; prints its URL. Data of an earlier run in the same run folder is kept,
               and so is its port
  stop         stops it and removes the run folder with all data
  halt         stops it (SIGTERM), and keeps its data
  kill9        ends it as a power cut would (SIGKILL), and keeps its data
  delete SUBJECT
               deletes a subject with all its versions, for good
  status       prints the URL and exits with 0 if it answers, else says why and exits with 1

environment
  KARST_TEST_REGISTRY_RUN     run folder (default: karst-registry-UID in the temporary folder). It holds `url`, `pid`,
                              `registry.log` and the data
  REGISTRY_VERSION            another version (default 3.0.9; from 3.1 on Java 21 may be needed)
  REGISTRY_HEAP               heap (default 384m)
  REGISTRY_WAIT               seconds to wait for an answer (default 60)
HELP
}

service=registry
mark() { echo "karst.run=$run"; }
# shellcheck source=scripts/service.sh
. "$here/service.sh"

install_registry() {
  [ -f "$home/complete" ] && return
  command -v mvn >/dev/null || die "mvn is missing; scripts/setup.sh --kafka installs it"
  say "fetching Apicurio Registry $version (once per machine, 100 MB)"
  local work="$cache/registry/.fetching-$version-$$"
  mkdir -p "$work/unpacked"
  # 2.8 is the last version of the plugin that takes an artifact without its parent, which this one lacks on Maven Central.
  if ! mvn -B -ntp org.apache.maven.plugins:maven-dependency-plugin:2.8:get -Dtransitive=false \
    "-Dartifact=io.apicurio:apicurio-registry-app:$version:tar.gz:all" "-Ddest=$work/registry.tar.gz" \
    >"$work/mvn.log" 2>&1 </dev/null; then
    grep -m 5 ERROR "$work/mvn.log" >&2 || tail -n 5 "$work/mvn.log" >&2
    rm -rf "$work"
    die "Apicurio Registry $version could not be had (above: what mvn says)"
  fi
  tar -xzf "$work/registry.tar.gz" -C "$work/unpacked"
  rm -rf "$home"
  mkdir -p "$(dirname "$home")"
  mv "$work/unpacked" "$home"
  touch "$home/complete" # last, so that half an archive is never taken for a whole one
  rm -rf "$work"
}

url() { cat "$run/url" 2>/dev/null; }

answers() {
  python3 - "$(url)/subjects" <<'PY' 2>/dev/null
import json, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=2) as answer:
    sys.exit(0 if isinstance(json.load(answer), list) else 1)
PY
}

launch() {
  local port jar pid
  port="$(url | sed -E 's|.*:([0-9]+)/.*|\1|')"
  jar="$(find "$home" -maxdepth 1 -name '*-runner.jar' -o -maxdepth 1 -name quarkus-run.jar | head -n 1)"
  [ -n "$jar" ] || die "there is no runner in $home"
  # WRITE_DELAY=0: what the registry has said yes to survives `kill9`.
  # A session of its own: Ctrl-C belongs to whoever started us, who then says stop.
  QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT="$port" APICURIO_STORAGE_KIND=sql APICURIO_STORAGE_SQL_KIND=h2 \
    APICURIO_DATASOURCE_URL="jdbc:h2:file:$run/data/registry;WRITE_DELAY=0" APICURIO_REST_DELETION_ARTIFACT_ENABLED=true \
    setsid java "-Xmx${REGISTRY_HEAP:-384m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dkarst.run=$run" \
    "-Djava.io.tmpdir=$run" -jar "$jar" </dev/null >>"$run/registry.log" 2>&1 &
  pid=$!
  disown
  await "$pid" answers
}

start() {
  check_java "the registry"
  install_registry
  mkdir -p "$run"
  run="$(cd "$run" && pwd)" # absolute, so that `running` finds it again
  if running; then
    answers || die "a registry runs in $run, but does not answer; see $run/registry.log"
    url
    return
  fi
  [ -f "$run/url" ] || echo "http://127.0.0.1:$(free_ports 1)/$path" >"$run/url"
  if launch; then
    url
    return
  fi
  end KILL
  tail -n 5 "$run/registry.log" | cut -c 1-300 >&2
  die "the registry did not start; its log is $run/registry.log"
}

command="${1:-help}"
[ -d "$run" ] && run="$(cd "$run" && pwd)"
case "$command" in
  install) check_java "the registry"; install_registry; echo "$home" ;;
  start) start ;;
  stop) end TERM; remove_run_folder url ;;
  halt) end TERM ;;
  kill9) end KILL ;;
  delete)
    python3 - "$(url)/subjects/${2:?delete needs a subject}" <<'PY'
import sys, urllib.request
for how in ("", "?permanent=true"):
    urllib.request.urlopen(urllib.request.Request(sys.argv[1] + how, method="DELETE"), timeout=10).read()
PY
    ;;
  status)
    url >/dev/null || die "no registry in $run; start one first"
    running || die "the registry at $(url) does not run (its data is in $run)"
    answers || die "the registry at $(url) does not answer"
    url
    ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
