#!/bin/sh
# `make help`: the targets of the makefiles given, in the groups that their "# ---- NAME: ..." lines open. A group that
# has no target with "## ..." behind it is not shown.
awk '
    /^# ---- (use|test|measure|change): / { title = substr($0, 8); next }
    /^[a-z_0-9-]+:.*## / { name = $0; sub(/:.*/, "", name); help = $0; sub(/.*## /, "", help)
                           if (title != shown) printf "\n%s\n", title
                           shown = title
                           printf "  %-20s %s\n", name, help }' "$@"
