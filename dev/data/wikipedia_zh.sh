#!/bin/bash
# Wikipedia in Chinese, 2023-07-20: 254,547 articles in simplified characters, filtered by Pleisto. 524 MB.
# CC BY-SA 3.0. Newer dumps are wiki markup or parquet, which Kiln does not read.
. "$(dirname "$0")/common.sh"
name=wikipedia-cn-20230720-filtered
# ModelScope has the same articles, one on each line.
[ "$mirror" = modelscope ] && file=$name.jsonl || file=$name.json
hugging_face "$file" pleisto/$name $name.json AI-ModelScope/$name $name.jsonl
sample completion "$raw/$file"
choose_tokenizer train:32000 "$raw/sample.txt"
make_shards --input "$raw/$file" --text-key completion
