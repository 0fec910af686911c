#!/bin/bash
# OpenAI's gpt-2-output-dataset: 250,000 documents of WebText, and 5,000 each for validation and test. MIT. --files 3 takes
# also the training file (about 700 MB), not only validation and test (about 15 MB each). Documents written by GPT-2, which
# the data set also has, are not downloaded.
. "$(dirname "$0")/common.sh"
for part in $([ "${files:-2}" -lt 3 ] || echo train) valid test; do
    publisher "webtext.$part.jsonl" \
        "https://openaipublic.blob.core.windows.net/gpt-2/output-dataset/v1/webtext.$part.jsonl"
done
sample text "$raw"/webtext.*.jsonl
choose_tokenizer gpt2 "$raw/sample.txt"
make_shards --input "$raw"/webtext.*.jsonl --text-key text
