#!/bin/bash
# Alpaca: 52,002 instructions with answers in English, made with text-davinci-003 at Stanford; 23 MB. CC BY-NC 4.0. The
# result is a file for fine-tuning: a JSON array of {"instruction", "input", "output"}.
. "$(dirname "$0")/common.sh"
publisher alpaca_data.json \
    https://raw.githubusercontent.com/tatsu-lab/stanford_alpaca/761dc5bfbdeeffa89b8bff5d038781a4055f796a/alpaca_data.json \
    2eddafc6b977608d778aaab8dfc7e50e547b3af9826dfb9e909d9fc362e4a419
stop_after_download
say "for fine-tuning: $raw/alpaca_data.json"
