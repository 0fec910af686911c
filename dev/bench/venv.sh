#!/bin/bash
# Makes build/venv, the virtual environment of the oracles, and installs the packages of a file there (the argument;
# dev/fixtures/requirements.txt without one), unless they are there already. Nothing that Kiln builds or runs needs it:
# only `make bench`, `make test-interop` and the scripts of dev/fixtures do.
set -eu
cd "$(dirname "$0")/../.."
venv=${BUILD:-build}/venv
requirements=${1:-dev/fixtures/requirements.txt}
stamp=$venv/$(basename "$(dirname "$requirements")").installed

cannot() {
    echo "venv: $1" >&2
    echo "venv: the comparison with PyTorch needs python3 (3.10 or later) with venv and pip, about 6 GB of disk and a package" >&2
    echo "venv: index that pip can reach (PIP_INDEX_URL or PIP_FIND_LINKS choose another). Nothing else in Kiln needs it." >&2
    exit 1
}

[ -f "$stamp" ] && cmp -s "$stamp" "$requirements" && exit 0
python=${PYTHON:-python3}
command -v "$python" >/dev/null || cannot "$python is not installed"
if [ ! -x "$venv/bin/python" ]; then
    echo "venv: making $venv" >&2
    "$python" -m venv "$venv" || { rm -rf "$venv"; cannot "'$python -m venv' failed (Debian: apt-get install python3-venv)"; }
fi
echo "venv: installing what $requirements names (minutes)" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 || cannot "pip could not install it"
cp "$requirements" "$stamp"
