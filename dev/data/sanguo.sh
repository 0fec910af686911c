#!/bin/bash
# 三國志演義, The Romance of the Three Kingdoms: 120 chapters in traditional characters, 1.8 MB, Project Gutenberg's
# eBook 23950. Public domain. The tokenizer is trained on it.
. "$(dirname "$0")/common.sh"
publisher pg23950.txt https://www.gutenberg.org/cache/epub/23950/pg23950.txt
stop_after_download
# Remove Gutenberg's own text before and after the book, and put a line "%" before each chapter, which makes it a document.
awk '{ sub(/\r$/, "") }
    /^\*\*\* ?END OF/ { exit }
    inside && /^[ \t]*第.*回[：: ]/ { print "%" }
    inside { print }
    /^\*\*\* ?START OF/ { inside = 1 }' "$raw/pg23950.txt" >"$raw/sanguo.txt.part"
[ -s "$raw/sanguo.txt.part" ] || fail "$raw/pg23950.txt is not laid out as a Gutenberg text; remove it and try again"
mv "$raw/sanguo.txt.part" "$raw/sanguo.txt"
choose_tokenizer train:8192 "$raw/sanguo.txt"
make_shards --input "$raw/sanguo.txt" --document-separator % --val-fraction 0.05
