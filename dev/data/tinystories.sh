#!/bin/bash
# TinyStories: 2.7 million short stories in simple English, written by GPT-4 (the V2 files). 2.2 GB. CDLA-Sharing-1.0.
. "$(dirname "$0")/common.sh"
for part in train valid; do
    hugging_face $part.txt roneneldan/TinyStories TinyStoriesV2-GPT4-$part.txt AI-ModelScope/TinyStories
done
choose_tokenizer gpt2 "$raw/train.txt"
make_shards --input "$raw/train.txt" "$raw/valid.txt" --document-separator '<|endoftext|>' --val-fraction 0.01
