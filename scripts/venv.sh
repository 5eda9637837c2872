#!/usr/bin/env bash
# A virtual environment of Python with the packages that a file names, each with its version: for tests and benches alone.
#
#   scripts/venv.sh tests/sql/requirements.txt     makes it, if it is not there; prints the path of its python
#
# It lies under $KARST_CACHE/venv, once per machine, and is another one when the file or Python's version changes. A line
# "# --no-deps" in the file installs exactly what it names.
set -euo pipefail
cache="${KARST_CACHE:-$HOME/.cache/karst}"
die() { echo "venv: $*" >&2; exit 1; }

[ $# -eq 1 ] && [ -f "$1" ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
command -v python3 >/dev/null || die 'python3 is missing; scripts/setup.sh --test installs it'
digest="$( (python3 --version && cat "$1") | sha256sum | cut -c 1-12)"
out="$cache/venv/$(basename "$(dirname "$1")")-$(basename "$1" .txt)-$digest"
python="$out/bin/python"
if [ -f "$out/complete" ] && "$python" -c '' 2>/dev/null; then echo "$python"; exit 0; fi

# A virtual environment knows its own path, so it is made where it is to stay; `complete` comes last.
mkdir -p "$cache/venv"
exec 9>"$out.lock"
flock 9
if [ -f "$out/complete" ] && "$python" -c '' 2>/dev/null; then echo "$python"; exit 0; fi
rm -rf "$out"
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
echo "venv: installing $(grep -cvE '^(#|$)' "$1") packages of $1 from PyPI (once per machine)" >&2
python3 -m venv "$out" >"$log" 2>&1 </dev/null ||
  { tail -n 5 "$log" >&2; die 'python3 could make no virtual environment (above: why); scripts/setup.sh --test installs what is missing'; }
options=()
grep -q '^# --no-deps$' "$1" && options+=(--no-deps)
"$python" -m pip install --quiet --disable-pip-version-check "${options[@]}" --requirement "$1" >"$log" 2>&1 </dev/null ||
  { tail -n 5 "$log" >&2; rm -rf "$out"; die "pip could not install $1 (above: what it says)"; }
touch "$out/complete"
echo "$python"
