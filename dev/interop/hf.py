#!/usr/bin/env python3
"""Checks Kiln against Hugging Face's transformers, tokenizers and safetensors, in both directions; `make test-interop`
runs it with transformers 5 and 4.

Out: transformers loads what `kiln export` and training write, of each architecture with tied and untied embeddings, in
each type, in one file and in several. In: `kiln` loads what save_pretrained of the same transformers writes. Each time
the logits agree, and 100 tokens at temperature 0 are the same. In then out gives the same bytes of every tensor.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, pipeline

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build").resolve()
TEXT = ROOT / "tests/fixtures/tokenizer/english.txt"
VERSION = int(transformers.__version__.split(".")[0])
DTYPE = "dtype" if VERSION >= 5 else "torch_dtype"
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CONTEXT, PROMPT, NEW_TOKENS = 128, "Alice was beginning", 100

# init_std is large: with 0.02, attention is nearly uniform, and a wrong RoPE would not be noticed.
COMMON = f"layers=2,dim=32,ctx={CONTEXT},init_std=0.3"
MODELS = {
    "gpt2": f"gpt2:{COMMON},heads=4",
    "gpt2_untied": f"gpt2:{COMMON},heads=2,ffn=40,tied=0",
    "llama": f"llama:{COMMON},heads=8,kv_heads=2,ffn=40,tied=0",
    "llama3_tied": f"llama:{COMMON},heads=4,kv_heads=2,ffn=40,tied=1,theta=100,rope_factor=8,rope_original=16",
    "qwen2_tied": f"qwen2:{COMMON},heads=4,kv_heads=1,ffn=40,tied=1",
    "qwen2": f"qwen2:{COMMON},heads=4,kv_heads=2,ffn=40,tied=0",
    "qwen3_tied": f"qwen3:{COMMON},heads=4,kv_heads=2,head_size=12,ffn=40,tied=1",
    "qwen3": f"qwen3:{COMMON},heads=4,kv_heads=1,head_size=12,ffn=40,tied=0",
}
# Of the largest logit. Each side rounds some hundred float32 sums of at most 64 terms on the way to a logit; measured
# against float64, Kiln's error was at most 2e-6. transformers also rounds RoPE's angles to float32, which is 4e-6 for
# angles from 64 on and then multiplied by the attention scores: with these large weights its logits were 1.3e-5 off at
# position 127, and Kiln's, whose angles are float64, were not. So logits are compared where angles are below 32.
TOLERANCE, LOGIT_TOKENS = 1e-5, 32
worst = 0.0


def run(program, *args, code=0):
    result = subprocess.run([str(part) for part in (program, *args)], capture_output=True)
    out, err = result.stdout.decode(), result.stderr.decode()  # as text, a carriage return would become a newline
    expect(result.returncode == code, f"exit code {result.returncode} of {program} {' '.join(map(str, args))}\n{err}")
    return err if code else out


def kiln(*args, code=0):
    return run(BUILD / "bin/kiln", *args, code=code)


def expect(condition, message):
    if not condition:
        sys.exit(f"hf: {message}")


def load(directory):
    model, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True, **{DTYPE: torch.float32})
    problems = [f"{key}: {sorted(value)}" for key, value in info.items() if value]
    expect(not problems, f"{directory}: transformers reports {problems}")
    return model.eval()


@torch.no_grad()
def expect_same_model(directory, ours=None):
    """transformers' model in `directory` computes what Kiln's in `ours` does."""
    global worst
    ours = ours or directory
    model, tokenizer = load(directory), AutoTokenizer.from_pretrained(directory)
    ids = tokenizer.encode(TEXT.read_text()[:400], add_special_tokens=False)[:LOGIT_TOKENS]
    theirs = model(torch.tensor([ids])).logits[0].numpy()
    logits = subprocess.run([BUILD / "dev/interop/logits", ours, *map(str, ids)], capture_output=True, check=True).stdout
    logits = np.frombuffer(logits, np.float32).reshape(theirs.shape)
    error = np.abs(logits - theirs).max() / np.abs(theirs).max()
    worst = max(worst, error)
    expect(error <= TOLERANCE, f"{directory}: logits are {error:.1e} apart")

    prompt = tokenizer.encode(PROMPT, add_special_tokens=False)
    tokens = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS,
                            eos_token_id=None, pad_token_id=0)[0]
    expect(len(tokens) == len(prompt) + NEW_TOKENS, f"{directory}: transformers stopped after {len(tokens)} tokens")
    text = kiln("generate", "--model", ours, "--prompt", PROMPT, "--temperature", 0, "--max-new-tokens", NEW_TOKENS,
                "--ignore-eos").removesuffix("\n")
    wanted = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    expect(text == wanted, f"{directory}: text {text!r} here, {wanted!r} there")


def expect_pipeline(directory):
    prompt = TEXT.read_text()[:7]
    text = pipeline("text-generation", model=str(directory))(prompt, max_new_tokens=4, do_sample=False)[0]["generated_text"]
    expect(text.startswith(prompt) and len(text) > len(prompt), f"{directory}: the pipeline gives {text!r}")


def tensors_of(directory):
    """All tensors as bytes, read by safetensors' own library."""
    tensors = {}
    for path in sorted(Path(directory).glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            expect(file.metadata() == {"format": "pt"}, f"{path}: metadata {file.metadata()}")
            for name in file.keys():
                tensor = file.get_tensor(name)
                tensors[name] = (tensor.dtype, tuple(tensor.shape), tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return tensors


def check_out(work, name, descriptor):
    run_directory = work / name
    run(BUILD / "bin/train_gpt2", "-i", work / "data", "-e", descriptor, "-o", run_directory, "-x", 4, "-b", 2, "-t", 32)
    expect_same_model(run_directory / "model")
    expect_pipeline(run_directory / "model")
    original = tensors_of(run_directory / "model")
    for type_name, dtype in TYPES.items():
        exported = work / f"{name}-{type_name}"
        kiln("export", "--model", run_directory, "--to", "hf", "--type", type_name, "--output", exported)
        tensors = tensors_of(exported)
        expect(tensors.keys() == original.keys(), f"{exported}: {sorted(tensors.keys() ^ original.keys())}")
        for tensor, (_, shape, data) in original.items():
            # torch rounds to the nearest, ties to even, too.
            rounded = torch.frombuffer(bytearray(data), dtype=torch.float32).to(dtype).view(torch.uint8).numpy().tobytes()
            expect(tensors[tensor] == (dtype, shape, rounded), f"{exported}: {tensor} is not what torch rounds it to")
        expect(getattr(AutoConfig.from_pretrained(exported), DTYPE) in (dtype, str(dtype).split(".")[1]),
               f"{exported}: config.json names another type")
        expect_same_model(exported)
        divided = work / f"{name}-{type_name}-divided"
        run(BUILD / "dev/interop/divide", exported, divided, 20000)
        expect(len(list(divided.glob("model-*-of-*.safetensors"))) > 1 and tensors_of(divided) == tensors,
               f"{divided}: is not the same model in several files")
        expect_same_model(divided)


def check_in(work, name):
    """What save_pretrained writes of the same architecture, with random weights."""
    config = AutoConfig.from_pretrained(work / name / "model")
    tokenizer = AutoTokenizer.from_pretrained(work / name / "model")
    for key in ("kiln", "_name_or_path"):
        config.__dict__.pop(key, None)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    for type_name, dtype in TYPES.items():
        for limit in ("1GB", "20KB"):
            saved, imported = work / f"{name}-saved-{type_name}-{limit}", work / f"{name}-in-{type_name}-{limit}"
            model.to(dtype).save_pretrained(saved, max_shard_size=limit)
            tokenizer.save_pretrained(saved)
            expect((limit == "1GB") == (saved / "model.safetensors").exists(), f"{saved}: files of other names")
            kiln("import", "--from", "hf", "--input", saved, "--output", imported)
            expect(tensors_of(imported) == tensors_of(saved), f"{imported}: other bytes than in {saved}")
            for file in ("tokenizer.json", "tokenizer_config.json"):
                expect((saved / file).read_bytes() == (imported / file).read_bytes(), f"{imported}/{file} differs")
            expect_same_model(saved)
            expect_same_model(imported)
    # If a model is saved without its LM head, the tensor names lack the prefix.
    if config.tie_word_embeddings:
        bare = work / f"{name}-bare"
        shutil.copytree(work / f"{name}-saved-f32-1GB", bare)
        model.float().base_model.save_pretrained(bare)
        expect_same_model(work / f"{name}-saved-bf16-1GB", bare)  # the weights were rounded to it last
    run(BUILD / "bin/train_gpt2", "-i", work / "data", "-e", work / f"{name}-saved-bf16-20KB", "-x", 2, "-b", 2, "-t", 32,
        "-o", work / f"{name}-trained")
    expect_same_model(work / f"{name}-trained/model")


TOKENIZERS = {
    "sentencepiece-bpe": ["--byte-fallback"],
    "sentencepiece-unigram": ["--byte-fallback"],
    "sentencepiece-char": ["--normalizer", "nmt_nfkc"],
    "char": ["--special-tokens", "<|endoftext|>,<unk>"],
}


def check_tokenizers(work):
    """Checkpoints with each other kind of tokenizer: AutoTokenizer has the same ids, and pipeline runs them."""
    lines = [line for line in TEXT.read_text().splitlines() if line.strip() and "\r" not in line][:100]
    lines += ["  two  spaces ", "ünï 床前明月光", " a"]
    for kind, options in TOKENIZERS.items():
        run_directory = work / f"tokenizer-{kind}"
        kiln("tokenizer", "train", "--type", kind, *options, "--input", TEXT, "--vocab-size", 400, "--output", work / kind)
        kiln("prepare", "--input", TEXT, "--tokenizer", work / kind, "--output", work / f"data-{kind}", "--val-fraction", 0)
        run(BUILD / "bin/train_gpt2", "-i", work / f"data-{kind}", "-e", MODELS["llama"], "-o", run_directory, "-x", 1,
            "-b", 1, "-t", 32)
        tokenizer = AutoTokenizer.from_pretrained(run_directory / "model")
        result = subprocess.run([BUILD / "bin/kiln", "tokenizer", "encode", "--tokenizer", run_directory / "model"],
                                input="\n".join(lines).encode(), capture_output=True, check=True)
        for line, ids in zip(lines, result.stdout.decode().split("\n"), strict=True):
            theirs = tokenizer.encode(line, add_special_tokens=False)
            ours = [int(token) for token in ids.split()]
            # In a unigram model, several segmentations into the same pieces may be equally likely.
            same = sorted(ours) == sorted(theirs) if kind == "sentencepiece-unigram" else ours == theirs
            expect(same, f"{kind}: {line!r} is {ours} here, {theirs} there")
        expect_pipeline(run_directory / "model")


def check_pickle(work):
    """The command in the error message converts a pickle."""
    pickle = work / "pickle"
    shutil.copytree(work / "gpt2-saved-f32-1GB", pickle)
    model = load(pickle)
    (pickle / "model.safetensors").unlink()
    torch.save(model.state_dict(), pickle / "pytorch_model.bin")
    message = kiln("import", "--from", "hf", "--input", pickle, "--output", work / "x", code=1)
    command = re.search(r'python3 -c "(.*)"', message).group(1).replace("NEW_DIR", str(work / "converted"))
    run(sys.executable, "-c", command)
    expect_same_model(work / "converted")


def check_ranks(work):
    """A checkpoint of several ranks has the parts of the optimizer state in the same directory."""
    checkpoint = work / "ranks"
    shutil.copytree(work / "llama/model", checkpoint)
    state = load_file(checkpoint / "optimizer.safetensors")
    (checkpoint / "optimizer.safetensors").unlink()
    for part in (1, 2):
        stretches = {}
        for name, tensor in state.items():
            begin, end = (part - 1) * tensor.numel() // 2, part * tensor.numel() // 2
            stretches[f"{name}[{begin}:{end}]"] = tensor.flatten()[begin:end].clone()
        save_file(stretches, checkpoint / f"optimizer-{part:05}-of-00002.safetensors")
    (checkpoint / "manifest.json").unlink()
    expect_same_model(checkpoint)
    expect_pipeline(checkpoint)


def main():
    print(f"hf: transformers {transformers.__version__}, torch {torch.__version__}")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        kiln("tokenizer", "train", "--input", TEXT, "--vocab-size", 400, "--output", work / "tokenizer")
        kiln("prepare", "--input", TEXT, "--tokenizer", work / "tokenizer", "--output", work / "data", "--val-fraction", 0)
        for name, descriptor in MODELS.items():
            check_out(work, name, descriptor)
            check_in(work, name)
            print(f"hf: {name}: equal", flush=True)
        check_tokenizers(work)
        check_pickle(work)
        check_ranks(work)
    print(f"hf: all logits within {worst:.1e} of the largest (at most {TOLERANCE:.0e})")


if __name__ == "__main__":
    main()
