#!/bin/bash
# HellaSwag: 10,042 beginnings with four endings each, one of them right; the validation file, 12 MB. MIT. The result is a
# file for evaluation, with a line {"ctx", "endings", "label", ...} for each.
. "$(dirname "$0")/common.sh"
publisher hellaswag_val.jsonl https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl \
    0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588
stop_after_download
say "for evaluation: $raw/hellaswag_val.jsonl"
