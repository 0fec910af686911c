#!/bin/bash
# FineWeb-Edu: educational web pages in English, a sample of 100 billion tokens. ODC-By 1.0.
# It is published as parquet, which Kiln does not read. So the default is GPT-2 tokens, in llm.c's shards of 100 million
# tokens and 200 MB by Andrej Karpathy: --files N, by default 1, at most 1001. With --tokenizer, it takes parquet files of
# sample/10BT of HuggingFaceFW/fineweb-edu (--files N, at most 14, 2 GB each), and converts them to text with DuckDB's
# command line, which must be installed.
. "$(dirname "$0")/common.sh"
: "${files:=1}"
if [ -z "$tokenizer" ]; then
    shards=karpathy/fineweb-edu-100B-gpt2-token-shards
    hugging_face edu_fineweb_val_000000.bin $shards edu_fineweb_val_000000.bin
    for ((i = 1; i <= files; i++)); do
        name=$(printf 'edu_fineweb_train_%06d.bin' $i)
        hugging_face "$name" $shards "$name"
    done
    choose_tokenizer gpt2
    say "train on it: ./train_gpt2 -i '$raw/edu_fineweb_train_*.bin' -j '$raw/edu_fineweb_val_*.bin' -e gpt2"
    exit
fi
command -v duckdb >/dev/null || [ -n "$download_only" ] ||
    fail "needs duckdb to read parquet (https://duckdb.org/docs/installation); without --tokenizer it is not needed"
for ((i = 0; i < files; i++)); do
    name=$(printf '%03d_00000' $i)
    hugging_face "$name.parquet" HuggingFaceFW/fineweb-edu "sample/10BT/$name.parquet" AI-ModelScope/fineweb-edu
done
stop_after_download
for parquet in "$raw"/*.parquet; do
    text=${parquet%.parquet}.jsonl
    [ -e "$text" ] || {
        duckdb -c "COPY (SELECT text FROM read_parquet('$parquet')) TO '$text.part' (FORMAT JSON)"
        mv "$text.part" "$text"
    }
done
sample text "$raw"/*.jsonl
choose_tokenizer train:32000 "$raw/sample.txt"
make_shards --input "$raw"/*.jsonl --text-key text
