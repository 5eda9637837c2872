# Sourced by scripts/kafka.sh and scripts/registry.sh: what Java services on loopback, each with its data in a run folder, have in
# common. Before the first call they set `service` (its name in messages), `run` (its folder), `wait_seconds` and `mark` (a text
# that is in its command line and in no other's).

say() { echo "$service: $*" >&2; }
die() { say "$*"; exit 1; }

check_java() { # $1: what needs it
  command -v java >/dev/null || die "java is missing; scripts/setup.sh --kafka installs it"
  local found
  found="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')"
  [ "${found:-0}" -ge 17 ] || die "$1 needs Java 17 or newer; java -version says ${found:-nothing}"
}

free_ports() { # $1 of them, all different
  python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])
PY
}

# The service of this run folder, and no other process that happens to have got its number.
running() {
  local pid
  pid="$(cat "$run/pid" 2>/dev/null)" || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$(mark)"
}

# Notes that process $1 is the service, and waits until the command behind it succeeds. Fails as soon as the process is gone.
await() {
  local pid="$1" started=$SECONDS
  shift
  echo "$pid" >"$run/pid"
  while ((SECONDS - started < wait_seconds)); do
    kill -0 "$pid" 2>/dev/null || return 1
    if "$@"; then return 0; fi
    sleep 0.1
  done
  say "no answer after $wait_seconds s"
  return 1
}

end() { # with signal $1; waits until the process is gone
  running || { rm -f "$run/pid"; return 0; }
  local pid i
  pid="$(cat "$run/pid")"
  kill "-$1" "$pid" 2>/dev/null || true
  for ((i = 0; i < 300; i++)); do
    running || { rm -f "$run/pid"; return 0; }
    sleep 0.1
  done
  say "still there 30 s after SIG$1, so killed"
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$run/pid"
}

# Only a folder that such a script made is ever removed: $1 is what it has put there.
remove_run_folder() { if [ -f "$run/$1" ]; then rm -rf "$run"; fi; }
