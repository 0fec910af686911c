#!/bin/sh
# `make compile-commands`: the commands of a dry run, on standard input, as JSON.
awk -v directory="$PWD" '
    / -c -o / { file = $NF; command = $0; sub(/^ +/, "", command); gsub(/\\/, "\\\\", command); gsub(/"/, "\\\"", command)
                printf "%s\n {\"directory\": \"%s\", \"file\": \"%s\", \"command\": \"%s\"}", (n++ ? "," : "["), directory, file, command }
    END { print n ? "\n]" : "[]" }'
