#!/usr/bin/env bash
# Builds RocksDB's static library once per machine, from the very source that the librocksdb-sys crate carries.
#
# Why: cargo compiles 343 C++ files one by one, 20-37 minutes on two cores; most of that is parsing the same headers.
# The same files as unity sources of 16 take about 5. Flags and defines follow the crate's own build.rs.
# Without this script plain `cargo build` still works, only slower.
#
# Prints nothing on success but the folder to use as ROCKSDB_LIB_DIR (last line of standard output).
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${KARST_CACHE:-$HOME/.cache/karst}"
jobs="${JOBS:-$(nproc)}"

crate_dir() { # the unpacked source of the package named $1, at the locked version
  local version
  version=$(awk -v want="\"$1\"" '$1=="name" && $3==want {getline; gsub(/"/,"",$3); print $3; exit}' Cargo.lock)
  ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$version" | head -n 1
}
have_sources() { src=$(crate_dir librocksdb-sys 2>/dev/null) && lz4=$(crate_dir lz4-sys 2>/dev/null)/liblz4/lib; }
# Only then, and not each time: this must answer also while a manifest or the lock file is being edited.
have_sources || { cargo fetch --locked >&2; have_sources; }
key="$(basename "$src")-$(g++ -dumpfullversion)-$(uname -m)-2" # the last number: of this script's flags
out="$cache/native/$key"
if [ -f "$out/librocksdb.a" ]; then echo "$out"; exit 0; fi
mkdir -p "$cache/native"
exec 9>"$cache/native/.lock"; flock 9 # two shells at once: the second waits, and finds it made
if [ -f "$out/librocksdb.a" ]; then echo "$out"; exit 0; fi

work="$cache/native/.build-$key"
rm -rf "$work"; mkdir -p "$work" "$out"
flags=(-O2 -std=c++20 -fPIC -g0 -w -include cstdint -I"$src/rocksdb/include" -I"$src/rocksdb" -I"$src" -I"$lz4"
  -DNDEBUG -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
case "$(uname -m)" in x86_64) flags+=(-msse4.2 -mpclmul);; esac

grep -v 'util/build_version.cc' "$src/rocksdb_lib_sources.txt" | grep . | awk -v dir="$src/rocksdb" -v work="$work" '
  { file = sprintf("%s/unity_%02d.cc", work, int((NR-1)/16)); printf "#include \"%s/%s\"\n", dir, $1 > file }'
cp "$src/build_version.cc" "$work/build_version.cc"
total=$(ls "$work"/*.cc | wc -l)
echo "compiling RocksDB ($total unity files, once per machine; about 5 minutes on two cores)" >&2
export work total
compile() {
  file=$1; shift
  g++ "$@" -c "$file" -o "${file%.cc}.o" || return 1 # not `set -e`: it does not reach into a function called by xargs
  printf '  RocksDB %d/%d\n' "$(ls "$work"/*.o | wc -l)" "$total" >&2
}
export -f compile
ls "$work"/*.cc | xargs -P "$jobs" -I{} bash -c 'compile "$@"' _ {} "${flags[@]}"
[ "$(ls "$work"/*.o | wc -l)" -eq "$total" ] || { echo "RocksDB: an object file is missing" >&2; exit 1; }
ar crs "$work/librocksdb.a" "$work"/*.o
mv "$work/librocksdb.a" "$out/librocksdb.a"     # last, so that a half-made library is never found
rm -rf "$work"
echo "$out"
