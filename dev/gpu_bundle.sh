#!/bin/bash
# `make gpu-bundle`: everything that check-gpu needs, in the folder OUT: the programs of BUILD, the shared libraries of Debian
# that they link, shards of real text, and `run`. The target machine has a driver, the CUDA libraries (the toolkit's or
# PyTorch's), and maybe PyTorch. Its C library is at least as new as this machine's.
set -eu
cd "$(dirname "$0")/.."
rm -rf "$OUT"
mkdir -p "$OUT/lib" "$OUT/dev/bench/peers" "$OUT/data"
programs=$(cd "$BUILD" && ls -d bin/* gpu/dev/bench/bench_{step,kernels,attention} gpu/tests/cuda/*_test gpu/tests/cuda/*/*_test)
for program in $programs; do
    mkdir -p "$OUT/$(dirname "$program")"
    cp "$BUILD/$program" "$OUT/$program"
    strip "$OUT/$program"
    # Without the C library and the CUDA libraries: the target machine has its own. With libstdc++: it may have an older
    # one, and only Kiln's programs see this one.
    ldd "$BUILD/$program" | awk '$3 ~ /^\// { print $3 }' |
        grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*|libcuda[^/]*|libcublas[^/]*|libnv[^/]*)\.so'
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

cat >"$OUT/run" <<'END'
#!/bin/bash
# All tests and measurements of Kiln on a GPU, in 9 minutes. The table is written to a folder in RESULTS (results/).
results=$(realpath -m "${RESULTS:-$(dirname "$0")/results}")
cd "$(dirname "$0")" || exit 1
nvidia-smi -L 2>/dev/null | grep -q GPU || {
    echo "run: nvidia-smi lists no GPU here: copy this folder to a machine with an NVIDIA GPU and its driver" >&2
    exit 1
}
if [ ! -e unpacked ]; then
    tar -xJf programs.tar.xz 2>/dev/null ||
        python3 -c 'import tarfile; tarfile.open("programs.tar.xz").extractall()' || exit 1
    touch unpacked
fi
cuda=${CUDA:-/usr/local/cuda}
# cuBLASLt and the CUDA runtime: CUDA's, or those that PyTorch has brought. Only Kiln's programs get these folders.
libraries=$PWD/lib
pytorchs=$("${PYTHON:-python3}" -c 'import glob, sys; print(*(d for p in sys.path for d in glob.glob(p + "/nvidia/*/lib")))' 2>/dev/null)
for library in libcublasLt.so.13 libcudart.so.13; do
    found=
    for folder in "$cuda/lib64" $pytorchs; do
        if [ -z "$found" ] && [ -e "$folder/$library" ]; then found=$folder; fi
    done
    [ -n "$found" ] || { echo "run: no $library in $cuda/lib64 or with PyTorch: set CUDA to the folder of a CUDA Toolkit 13" >&2; exit 1; }
    libraries+=:$found
done
BUILD=$PWD CUDA=$cuda LIBRARIES=$libraries RESULTS=$results REPEAT=$0 exec dev/check_gpu.sh
END
chmod +x "$OUT/run"
size=$(du -sm "$OUT" | cut -f1)
echo "$OUT: $size MiB; copy it to a machine with a GPU and start $(basename "$OUT")/run there"
[ "$size" -le 60 ] || { echo "gpu-bundle: more than 60 MiB" >&2; exit 1; }
