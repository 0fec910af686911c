#!/bin/bash
# `make bench`: Kiln beside PyTorch on this CPU, in one interleaved run. Options are bench.py's; see --help.
set -eu
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
dev/bench/venv.sh || { echo "bench: there is nothing to compare with; see above" >&2; exit 1; }
exec "$BUILD/venv/bin/python" dev/bench/bench.py --engine "$BUILD/dev/bench/bench_engine" "$@"
