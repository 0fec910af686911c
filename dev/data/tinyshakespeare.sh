#!/bin/bash
# Tiny Shakespeare: 1.1 MB of plays in one file, the smallest of the usual data sets. Public domain.
. "$(dirname "$0")/common.sh"
publisher input.txt \
    https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt \
    86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed
choose_tokenizer gpt2 "$raw/input.txt"
# Each speech is a document, so that some can be held back for validation.
make_shards --input "$raw/input.txt" --documents paragraph --val-fraction 0.1
