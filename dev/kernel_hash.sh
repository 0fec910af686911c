#!/bin/sh
# The hash of a kernel table: of HASH, which stands for what the table was made of, and of the table's own lines. Prints
# the line "# hash ..." for the table $1, with nvcc's RELEASE; with --check first, says whether table $2 has that line.
if [ "$1" = --check ]; then grep -qxF "$("$0" "$2")" "$2"; exit; fi
echo "# hash $({ echo "$HASH"; grep -v '^# hash ' "$1"; } | sha256sum | cut -c 1-16): of the sources, of nvcc $RELEASE and of the lines of this table"
