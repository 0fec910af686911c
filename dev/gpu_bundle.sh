#!/bin/bash
# `make gpu-bundle`: everything that check-gpu needs, in the folder OUT: the programs of BUILD, the shared libraries of Debian
# that they link, shards of real text, and `run`. The target machine has a driver, the CUDA libraries (the toolkit's or
# PyTorch's), and maybe PyTorch.
set -eu
cd "$(dirname "$0")/.."
rm -rf "$OUT"
mkdir -p "$OUT/lib" "$OUT/dev/bench/peers" "$OUT/data"
programs=$(cd "$BUILD" && ls -d bin/* gpu/dev/bench/bench_{step,kernels,attention} gpu/tests/cuda/*_test gpu/tests/cuda/*/*_test)
for program in $programs; do
    mkdir -p "$OUT/$(dirname "$program")"
    cp "$BUILD/$program" "$OUT/$program"
    strip "$OUT/$program"
    # Without the CUDA libraries and those of C and C++: the target machine has its own. Debian 12's libstdc++ would need
    # glibc 2.36, but the programs and the other libraries only 2.34 and the libstdc++ of GCC 12, which Ubuntu 22.04 has.
    ldd "$BUILD/$program" | awk '$3 ~ /^\// { print $3 }' |
        grep -vE '/(libstdc\+\+|libgcc_s|libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*|libcuda[^/]*|libcublas[^/]*|libnv[^/]*)\.so'
done | sort -u | xargs -I{} cp -L {} "$OUT/lib/"
cp dev/check_gpu.sh "$OUT/dev/"
git describe --always --dirty >"$OUT/commit"
cp dev/bench/peers/{torch_gpt2,torch_attention,pytorch_model}.py "$OUT/dev/bench/peers/"

# Tang poems and Song lyrics, the text of the quickstart.
text=$(mktemp)
trap 'rm -f "$text"' EXIT
for book in tang300 song100; do sed -E 's/\x1b\[[0-9;]*m//g' "/usr/share/games/fortunes/$book"; done >"$text"
"$BUILD/bin/kiln" tokenizer train --input "$text" --vocab-size 4096 --output "$OUT/data/tokenizer" >/dev/null
"$BUILD/bin/kiln" prepare --input "$text" --document-separator % --tokenizer "$OUT/data/tokenizer" --val-fraction 0.05 \
    --output "$OUT/data/shards" >/dev/null

# The dictionary spans several programs, so xz finds the kernels that they share. A machine without xz unpacks with Python.
tar -C "$OUT" -cf - lib bin gpu | xz --lzma2=preset=2,dict=64MiB >"$OUT/programs.tar.xz"
rm -rf "${OUT:?}/lib" "${OUT:?}/bin" "${OUT:?}/gpu"

cp dev/gpu_bundle_run.sh "$OUT/run"
size=$(du -sm "$OUT" | cut -f1)
echo "$OUT: $size MiB; copy it to a machine with a GPU and start $(basename "$OUT")/run there"
[ "$size" -le 60 ] || { echo "gpu-bundle: more than 60 MiB" >&2; exit 1; }
