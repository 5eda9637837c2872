# Source this: the build settings that the Makefile uses, for a shell of your own. `. scripts/env.sh && cargo test`
export KARST_CACHE="${KARST_CACHE:-$HOME/.cache/karst}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$KARST_CACHE/target}"
ROCKSDB_LIB_DIR="$(bash "$(dirname "${BASH_SOURCE[0]}")/native.sh")" && export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
