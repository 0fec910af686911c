#!/bin/sh
# Installs what dev/packages.txt names and this machine lacks: what the programs need, and with "test" as its argument what
# the tests need too. Without the right to, says what is missing and how to get it.
set -eu
cd "$(dirname "$0")/.."
if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is not Debian or Ubuntu; install what dev/packages.txt names with your own package manager" >&2
    exit 0
fi
release=$(. /etc/os-release && echo "$ID-${VERSION_ID:-}")
wanted=$(awk -v release="$release" -v part="${1:-}" '
    /^# For the tests/ && part != "test" { exit }
    { sub(/#.*/, "") }
    NF { name = $1
         for (i = 2; i <= NF; i++) if (index($i, release ":") == 1) name = substr($i, length(release) + 2)
         if (name == "-") print "setup: " release " has no package " $1 "; dev/packages.txt says what to do" >"/dev/stderr"
         else print name }' dev/packages.txt)
missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo=sudo
else
    echo "setup: missing packages, and no right to install them here. Ask an administrator to run:" >&2
    echo "    apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 1
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends $missing >&2
