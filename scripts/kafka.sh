#!/usr/bin/env bash
# A real Apache Kafka for the tests: one node (KRaft), on loopback, with its data in a temporary folder.
#
# The jars come from Maven Central by their coordinates (tests/kafka/broker/pom.xml), once per machine. Nothing else of
# the machine is touched; `stop` leaves no trace but the jars.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
broker="$here/tests/kafka/broker"
cache="${KARST_CACHE:-$HOME/.cache/karst}"
run="${KARST_TEST_KAFKA_RUN:-${TMPDIR:-/tmp}/karst-kafka-$(id -u)}"
wait_seconds="${KAFKA_WAIT:-60}"

usage() {
  cat <<'HELP'
usage: scripts/kafka.sh COMMAND

  install                     copies the jars into the cache, if they are not there
  start                       starts the broker and waits until it answers; prints its address. Data of an earlier run
                              in the same run folder is kept, and so is its port
  stop                        stops it and removes the run folder with all data
  halt                        stops it as an operator would (SIGTERM), and keeps its data
  kill9                       ends it as a power cut would (SIGKILL), and keeps its data
  restart                     halt if it runs, then start: same address, same data
  status                      prints the address and exits with 0 if it answers, else says why and exits with 1
  topic-create NAME [--partitions N] [--config KEY=VALUE]...
  topic-delete NAME
  tool CLASS [ARGUMENT]...    runs a class of Kafka's own tools, for example
                              tool org.apache.kafka.tools.ConsoleProducer --bootstrap-server HOST:PORT --topic T

environment
  KARST_TEST_KAFKA_RUN        run folder (default: karst-kafka-UID in the temporary folder). It holds `address`, `pid`,
                              `broker.log`, `data/`, and with KAFKA_SECURE=1 `secure_address` and `ca.pem`
  KAFKA_PORT                  port to listen on (default: a free one)
  KAFKA_SECURE=1              also listens with SASL_SSL (PLAIN, user karst, password karst-secret)
  KAFKA_HEAP                  heap (default 512m)
  KAFKA_VERSION               another version than the one in tests/kafka/broker/pom.xml
  KAFKA_WAIT                  seconds to wait for an answer (default 60)
HELP
}

service=kafka
mark() { echo "$run/server.properties"; }
# shellcheck source=scripts/service.sh
. "$here/scripts/service.sh"

version="${KAFKA_VERSION:-$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$broker/pom.xml")}"
jars="$cache/kafka/$version"

install_jars() {
  [ -f "$jars/complete" ] && return
  command -v mvn >/dev/null || die "mvn is missing; scripts/setup.sh --kafka installs it"
  say "copying the jars of Apache Kafka $version (once per machine, 40 MB)"
  local work="$cache/kafka/.copying-$version-$$" log
  mkdir -p "$work/libs"
  cp "$broker/pom.xml" "$work/pom.xml"
  log="$work/mvn.log"
  if ! (cd "$work" && mvn -B -ntp dependency:copy-dependencies "-Dkafka.version=$version" -DincludeScope=runtime \
    -DoutputDirectory="$work/libs" >"$log" 2>&1 </dev/null); then
    grep -m 5 ERROR "$log" >&2 || tail -n 5 "$log" >&2
    rm -rf "$work"
    die "the jars of Apache Kafka $version could not be had (above: what mvn says)"
  fi
  mkdir -p "$jars"
  cp "$work"/libs/*.jar "$jars/"
  touch "$jars/complete" # last, so that half a class path is never taken for a whole one
  rm -rf "$work"
}

# The tools live for a second: what is slow to warm up is left cold.
tool() {
  install_jars
  java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j.configurationFile="$broker/log4j2.properties" \
    -cp "$jars/*" "$@"
}

address() { cat "$run/address" 2>/dev/null; }

# Asks for the API versions, the first question of every client: an open port alone is not yet an answer.
answers() {
  python3 - "$(address)" <<'PY' 2>/dev/null
import socket, struct, sys
host, port = sys.argv[1].rsplit(":", 1)
with socket.create_connection((host, int(port)), 2) as peer:
    peer.settimeout(5)
    request = struct.pack(">hhih", 18, 0, 7, -1)  # ApiVersions, version 0, correlation 7, no client id
    peer.sendall(struct.pack(">i", len(request)) + request)
    reply = b""
    while len(reply) < 10:
        part = peer.recv(10 - len(reply))
        if not part:
            sys.exit(1)
        reply += part
    _, correlation, error = struct.unpack(">iih", reply)
    sys.exit(0 if (correlation, error) == (7, 0) else 1)
PY
}

secure_listener() { # key and certificate of this run, signed by itself, and what the broker must know about them
  local port="$1" password=karst-secret
  keytool -genkeypair -alias broker -keyalg EC -groupname secp256r1 -validity 30 -dname CN=localhost \
    -ext san=ip:127.0.0.1,dns:localhost -storetype PKCS12 -keystore "$run/keystore.p12" -storepass "$password" 2>/dev/null
  keytool -exportcert -rfc -alias broker -keystore "$run/keystore.p12" -storepass "$password" >"$run/ca.pem" 2>/dev/null
  echo "127.0.0.1:$port" >"$run/secure_address"
  cat >>"$run/server.properties" <<PROPERTIES

sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_karst="$password";
listener.name.secure.ssl.keystore.location=$run/keystore.p12
listener.name.secure.ssl.keystore.type=PKCS12
listener.name.secure.ssl.keystore.password=$password
listener.name.secure.ssl.key.password=$password
PROPERTIES
}

prepare() { # a run folder with its settings and an empty, formatted log
  local port controller secure="" listener=""
  read -r port controller secure <<<"$(free_ports 3)"
  port="${KAFKA_PORT:-$port}"
  mkdir -p "$run"
  [ "${KAFKA_SECURE:-0}" = 1 ] && listener=",SECURE://127.0.0.1:$secure"
  sed -e "s|@PORT@|$port|g; s|@CONTROLLER_PORT@|$controller|g; s|@RUN@|$run|g; s|@SECURE_LISTENER@|$listener|g" \
    "$broker/server.properties" >"$run/server.properties"
  [ -n "$listener" ] && secure_listener "$secure"
  tool kafka.tools.StorageTool format --standalone -t karstkarstkarstkarstka -c "$run/server.properties" \
    >"$run/broker.log" 2>&1 || { cat "$run/broker.log" >&2; die "the log folder could not be formatted"; }
  echo "127.0.0.1:$port" >"$run/address" # last: without it the run folder counts as not prepared
}

launch() {
  tail_from=$(($(stat -c %s "$run/broker.log" 2>/dev/null || echo 0) + 1))
  # A session of its own: Ctrl-C belongs to whoever started us, who then says stop.
  setsid java "-Xmx${KAFKA_HEAP:-512m}" "-Xms${KAFKA_HEAP:-512m}" -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError \
    -Dlog4j.configurationFile="$broker/log4j2.properties" -Djava.io.tmpdir="$run" \
    -cp "$jars/*" kafka.Kafka "$run/server.properties" </dev/null >>"$run/broker.log" 2>&1 &
  local pid=$!
  disown
  await "$pid" serves
}

# It has said so since it was launched, and it is so.
serves() { [[ "$(tail -c "+$tail_from" "$run/broker.log")" == *"Kafka Server started"* ]] && answers; }

start() {
  check_java "Kafka 4"
  install_jars
  mkdir -p "$run"
  run="$(cd "$run" && pwd)" # absolute, so that `running` finds it again
  if running; then
    answers || die "a broker runs in $run, but does not answer; see $run/broker.log"
    address
    return
  fi
  local fresh=0 attempt
  for attempt in 1 2 3; do
    if [ ! -f "$run/address" ]; then prepare && fresh=1; fi
    if launch; then
      address
      return
    fi
    end KILL
    # Between choosing a free port and taking it somebody else may have taken it; a fresh run just chooses again.
    if [ "$fresh" = 1 ] && [ -z "${KAFKA_PORT:-}" ] && grep -q 'Address already in use' "$run/broker.log"; then
      say "the port was taken meanwhile, trying another ($attempt)"
      rm -rf "$run/address" "$run/data"
      continue
    fi
    break
  done
  grep -E 'ERROR|FATAL|^Caused by' "$run/broker.log" | cut -c 1-300 | tail -n 5 >&2 || tail -n 5 "$run/broker.log" >&2
  die "the broker did not start; its log is $run/broker.log"
}

need_address() { address >/dev/null || die "no broker in $run; start one first"; }

command="${1:-help}"
[ $# -gt 0 ] && shift
[ -d "$run" ] && run="$(cd "$run" && pwd)"
case "$command" in
  install) check_java "Kafka 4"; install_jars; echo "$jars" ;;
  start) start ;;
  stop) end TERM; remove_run_folder server.properties ;;
  halt) end TERM ;;
  kill9) end KILL ;;
  restart) need_address; end TERM; start ;;
  status)
    need_address
    running || die "the broker at $(address) does not run (its data is in $run)"
    answers || die "the broker at $(address) does not answer"
    address
    ;;
  topic-create)
    need_address
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$(address)" --create --topic "${1:?topic-create needs a name}" "${@:2}"
    ;;
  topic-delete)
    need_address
    tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$(address)" --delete --topic "${1:?topic-delete needs a name}"
    ;;
  tool) tool "$@" ;;
  help | -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
