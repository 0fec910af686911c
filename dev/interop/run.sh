#!/bin/bash
# `make test-interop`: runs dev/interop/NAME.py for each NAME, with the packages of requirements.txt and, for hf, a second
# time with transformers 4.
set -eu
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # the models are too small for more
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
dev/bench/venv.sh dev/interop/requirements.txt || { echo "test-interop: there is nothing to compare with; see above" >&2; exit 1; }
older=$BUILD/venv/transformers-4
if [ ! -d "$older" ]; then
    rm -rf "$older.part"
    "$BUILD/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$older.part" \
        -r dev/interop/requirements-transformers-4.txt
    mv "$older.part" "$older"
fi
for name in "$@"; do
    "$BUILD/venv/bin/python" "dev/interop/$name.py" "$BUILD"
    [ "$name" != hf ] || PYTHONPATH=$older "$BUILD/venv/bin/python" "dev/interop/$name.py" "$BUILD"
done
