#!/bin/bash
# Belle: 519,255 instructions with answers in Chinese, made with text-davinci-003; 286 MB. GPL-3.0, for research only. The
# result is a file for fine-tuning, with a line {"instruction", "input", "output"} for each.
. "$(dirname "$0")/common.sh"
hugging_face belle_0.5m.jsonl BelleGroup/train_0.5M_CN Belle_open_source_0.5M.json
stop_after_download
say "for fine-tuning: $raw/belle_0.5m.jsonl"
