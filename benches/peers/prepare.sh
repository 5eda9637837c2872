#!/usr/bin/env bash
# Installs what Karst is compared with by `make bench-peers`, under $KARST_CACHE, once per machine, and compiles Flink's job. Prints the
# settings for benches/peers/main.rs as lines NAME=value; what could not be had is said and left out.
#
#   benches/peers/prepare.sh flink bytewax polars
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

flink() {
  local python home classes
  python="$(scripts/venv.sh benches/peers/flink.txt)" || return 1
  home="$("$python" -c 'import importlib.util as u; print(u.find_spec("pyflink").submodule_search_locations[0])')" || return 1
  classes="$(dirname "$(dirname "$python")")/job-$(sha256sum benches/peers/FeatureJob.java | cut -c 1-12)"
  if [ ! -f "$classes/FeatureJob.class" ]; then
    rm -rf "$classes.new"
    javac -nowarn -d "$classes.new" -cp "$home/lib/*" benches/peers/FeatureJob.java >&2 || return 1
    mv "$classes.new" "$classes"
  fi
  printf "PEER_FLINK=%q\n" "$classes:$home/lib/*"
}

for engine in "$@"; do
  case "$engine" in
    flink) flink ;;
    bytewax) python="$(scripts/venv.sh benches/peers/bytewax.txt)" && printf "PEER_BYTEWAX=%q\n" "$python" ;;
    polars) python="$(scripts/venv.sh benches/peers/polars.txt)" && printf "PEER_POLARS=%q\n" "$python" ;;
    karst) ;;
    *) echo "prepare: no engine $engine; there are karst, flink, bytewax and polars" >&2; exit 2 ;;
  esac || echo "peers: $engine is left out (above: why)" >&2
done
