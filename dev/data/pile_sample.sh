#!/bin/bash
# A sample of The Pile (EleutherAI, 22 sources, English) without its copyrighted books: the validation file of
# monology/pile-uncopyrighted, about 0.1 % of the whole; 338 MB compressed. The licences are those of its sources.
. "$(dirname "$0")/common.sh"
hugging_face val.jsonl.zst monology/pile-uncopyrighted val.jsonl.zst
choose_tokenizer gpt2
make_shards --input "$raw/val.jsonl.zst" --text-key text
