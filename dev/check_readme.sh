#!/bin/bash
# Runs every command of README.md's ```sh blocks, in order, in a scratch directory that sees this tree through links.
# Left out: 'git clone' and 'cd' (this is the clone), and 'make test' (which calls this). Long runs are shortened through
# the environment, which a command line overrides: the commands themselves run as printed.
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for entry in Makefile README.md build cpu_reference tokenizer tools tests dev; do
    [ -e "$tree/$entry" ] && ln -s "$tree/$entry" "$scratch/$entry"
done
cd "$scratch"
# The reader's own text: anything. Here, the first lines of Debian's fortunes without their colours.
head -n 1500 /usr/share/games/fortunes/chinese | sed -E 's/\x1b\[[0-9;]*m//g; /^%$/d' >my.txt
export QUICKSTART_STEPS=20 KILN_MAX_STEPS=12

awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' README.md |
    sed -E 's/[[:space:]]+# .*$//' | sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}' |
    grep -vE '^(git clone|cd |make test)|^#|^$' >commands
count=0
while IFS= read -r command <&3; do
    count=$((count + 1))
    if ! printf '你好\n' | bash -euo pipefail -c "$command" >output 2>&1; then
        echo "README.md: this command fails: $command" >&2
        tail -n 30 output >&2
        exit 1
    fi
done 3<commands
[ "$count" -ge 10 ] || { echo "README.md: only $count commands found; has the layout of its blocks changed?" >&2; exit 1; }
echo "README.md: $count commands run"
