#!/bin/bash
# CCI 3.0 HQ: filtered Chinese web pages of the Beijing Academy of Artificial Intelligence; over 1,000 files of 26 MB;
# --files N takes N of them, by default 4. Its own usage agreement must be accepted on Hugging Face; then set HF_TOKEN. The full CCI3-Data is 1 TB.
. "$(dirname "$0")/common.sh"
for ((i = 0; i < ${files:-4}; i++)); do
    name=$(printf 'part_%06d.jsonl' $i)
    hugging_face "$name" BAAI/CCI3-HQ "data/$name" BAAI/CCI3-HQ
done
sample text "$raw"/part_*.jsonl
choose_tokenizer train:32000 "$raw/sample.txt"
make_shards --input "$raw"/part_*.jsonl --text-key text
