#!/bin/bash
# From text to a generated poem: Tang poems and Song lyrics of Debian's fortunes-zh -> tokenizer -> shards -> a small
# Llama model -> a poem. QUICKSTART_DIR: the directory to write; what an earlier quickstart made there is kept and used.
# QUICKSTART_STEPS: the number of training steps of a new run.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${QUICKSTART_DIR:-runs/quickstart}
steps=${QUICKSTART_STEPS:-400}
fortunes=/usr/share/games/fortunes
[ $# = 0 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }

trainer=./train_gpt2
if [ -x ./train_gpt2cu ] && nvidia-smi >/dev/null 2>&1; then trainer=./train_gpt2cu; fi

say() {
    if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

mkdir -p "$out"
exec 9<"$out"
flock -n 9 || { echo "quickstart: another quickstart is writing to $out; wait until it ends, or set QUICKSTART_DIR" >&2; exit 1; }
if [ -n "$(ls -A "$out")" ]; then
    if [ ! -e "$out/.quickstart" ]; then
        echo "quickstart: $out exists and was not made by quickstart; move it away, or set QUICKSTART_DIR" >&2
        exit 1
    fi
    echo "resuming the earlier quickstart in $out; for a new one, set QUICKSTART_DIR to another directory"
fi
touch "$out/.quickstart"

say "1. Text: 300 Tang poems and 100 Song lyrics"
for book in tang300 song100; do
    [ -r "$fortunes/$book" ] || { echo "quickstart: $fortunes/$book is missing; run 'make setup'" >&2; exit 1; }
    sed -E 's/\x1b\[[0-9;]*m//g' "$fortunes/$book"  # the books contain terminal colours
done >"$out/poems.txt"
echo "$(grep -c '^%$' "$out/poems.txt") poems, $(wc -c <"$out/poems.txt") bytes -> $out/poems.txt"

say "2. Tokenizer: byte-level BPE, trained on the poems"
[ -e "$out/tokenizer/tokenizer.json" ] ||
    ./kiln tokenizer train --input "$out/poems.txt" --vocab-size 4096 --output "$out/tokenizer"

say "3. Shards"
[ -e "$out/shards/shards.json" ] ||
    ./kiln prepare --input "$out/poems.txt" --document-separator % --tokenizer "$out/tokenizer" --val-fraction 0.05 \
        --output "$out/shards"

say "4. Training ($trainer)"
echo "400 poems are few: the model soon memorizes them, and the validation loss rises. Train on more text of your own."
if compgen -G "$out/run/checkpoint-*" >/dev/null; then
    train=("$trainer" -o "$out/run" --resume)
else
    train=("$trainer" -i "$out/shards" -e llama:layers=4,dim=192,heads=6,kv_heads=3,ctx=128,multiple_of=32,dropout=0.2
        -o "$out/run" -b 16 -t 128 -x "$steps" -l 0.002 -u 30 -q 0.1 -c 0.1 -v 100 -n 200 -nk 1
        --log-every 10)
fi
"${train[@]}"

say "5. A generated poem"
model=$out/run/best  # the lowest validation loss
[ -e "$model" ] || model=$out/run
./kiln generate --model "$model" --prompt '《' --temperature 0.8 --top-k 50 --max-new-tokens 120

newest=$(ls -d "$out"/run/checkpoint-* | tail -n 1)
say "The model: $model"
cat <<END
The loss curve: $out/run/loss.svg

Try next:
  ./kiln generate --model $model --interactive --temperature 0.8
  ./kiln eval --model $model --data $out/shards
  $trainer -i $out/shards -o $out/run --resume -x $((2 * 10#${newest##*-}))
END
