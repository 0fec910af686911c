#!/bin/bash
# `make bench` and `make bench-tokenizer`: Kiln and its peers on this CPU, in one interleaved run. The first argument is the
# script, the others its options; see --help.
set -eu
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
dev/bench/venv.sh || { echo "bench: there is nothing to compare with; see above" >&2; exit 1; }
script=$1
shift
exec "$BUILD/venv/bin/python" "dev/bench/$script" "$@"
