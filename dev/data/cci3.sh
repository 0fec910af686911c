#!/bin/bash
# CCI 3.0 HQ: filtered Chinese web pages of the Beijing Academy of Artificial Intelligence; over 1,000 files of 26 MB, of
# which --files N are taken, 4 unless told otherwise. Its own usage agreement, which Hugging Face wants to see accepted
# (then set HF_TOKEN). The full CCI3-Data is 1 TB.
. "$(dirname "$0")/common.sh"
for ((i = 0; i < ${files:-4}; i++)); do
    name=$(printf 'part_%06d.jsonl' $i)
    hugging_face "$name" BAAI/CCI3-HQ "data/$name" BAAI/CCI3-HQ
done
sample text "$raw"/part_*.jsonl
choose_tokenizer train:32000 "$raw/sample.txt"
make_shards --input "$raw"/part_*.jsonl --text-key text
