#!/bin/bash
# OpenAI's gpt-2-output-dataset: 250,000 documents of WebText, 5,000 each for validation and test; and as many that GPT-2
# wrote, which are not fetched: they are for telling them apart. MIT. --files 3 takes the training file (about 700 MB)
# too; else validation and test only (about 15 MB each).
. "$(dirname "$0")/common.sh"
for part in $([ "${files:-2}" -lt 3 ] || echo train) valid test; do
    publisher "webtext.$part.jsonl" \
        "https://openaipublic.blob.core.windows.net/gpt-2/output-dataset/v1/webtext.$part.jsonl"
done
sample text "$raw"/webtext.*.jsonl
choose_tokenizer gpt2 "$raw/sample.txt"
make_shards --input "$raw"/webtext.*.jsonl --text-key text
