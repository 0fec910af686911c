"""Reads what Kiln writes for llm.c with a reader and a GPT-2 of its own, and compares losses with kiln eval.

    python3 dev/interop/llmc.py [BUILD]
"""
import tempfile
from pathlib import Path

import numpy as np
from support.tiny_model import KILN, TRAIN, attention, check, kiln_loss, loss_of, run, safetensors, shard_tokens, train

FIELDS = ["ln1w", "ln1b", "qkvw", "qkvb", "attprojw", "attprojb", "ln2w", "ln2b", "fcw", "fcb", "fcprojw", "fcprojb"]


def header_of(data):
    return np.frombuffer(data, "<i4", 256)


def shapes(max_T, L, C, Vp):
    rows = {"wte": (Vp, C), "wpe": (max_T, C)}
    block = {"ln1w": (C,), "ln1b": (C,), "qkvw": (3 * C, C), "qkvb": (3 * C,), "attprojw": (C, C), "attprojb": (C,), "ln2w": (C,),
             "ln2b": (C,), "fcw": (4 * C, C), "fcb": (4 * C,), "fcprojw": (C, 4 * C), "fcprojb": (C,)}
    return rows | {name: (L, *block[name]) for name in FIELDS} | {"lnfw": (C,), "lnfb": (C,)}


def divide(values, sizes):
    """The tensors of a flat array."""
    tensors, at = {}, 0
    for name, shape in sizes.items():
        n = int(np.prod(shape))
        tensors[name] = values[at:at + n].reshape(shape)
        at += n
    assert at == len(values), "the file has another size than its header says"
    return tensors


class Model:
    def __init__(self, path):
        data = Path(path).read_bytes()
        magic, version, self.max_T, self.V, self.L, self.NH, self.C, self.Vp = header_of(data)[:8]
        assert magic == 20240326 and version in (3, 5) and self.Vp % 128 == 0
        if version == 3:
            values = np.frombuffer(data, "<f4", -1, 1024)
        else:
            values = (np.frombuffer(data, "<u2", -1, 1024).astype("<u4") << 16).view("<f4")
        self.sizes = shapes(self.max_T, self.L, self.C, self.Vp)
        self.w = {name: tensor.astype(float) for name, tensor in divide(values, self.sizes).items()}
        assert (self.w["wte"][self.V:] == 0).all(), "the padding is not zero"

    def logits(self, tokens):
        w, t = self.w, len(tokens)

        def norm(x, weight, bias):
            x = x - x.mean(axis=1, keepdims=True)
            return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * weight + bias

        x = w["wte"][tokens] + w["wpe"][:t]
        for l in range(self.L):
            b = {name: w[name][l] for name in FIELDS}
            q, k, v = np.split(norm(x, b["ln1w"], b["ln1b"]) @ b["qkvw"].T + b["qkvb"], 3, axis=1)
            q, k, v = (part.reshape(t, self.NH, -1) for part in (q, k, v))
            x = x + attention(q, k, v) @ b["attprojw"].T + b["attprojb"]
            h = norm(x, b["ln2w"], b["ln2b"]) @ b["fcw"].T + b["fcb"]
            h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h ** 3)))
            x = x + h @ b["fcprojw"].T + b["fcprojb"]
        return norm(x, w["lnfw"], w["lnfb"]) @ w["wte"][:self.V].T


def tokenizer_of(path):
    data = Path(path).read_bytes()
    magic, version, ids, end = header_of(data)[:4]
    assert magic == 20240328 and version == 2
    tokens, at = [], 1024
    for _ in range(ids):
        tokens.append(data[at + 1:at + 1 + data[at]])
        at += 1 + data[at]
    assert at == len(data)
    return tokens, end


def names_of(layers):
    """For each tensor: the field of llm.c, the name in Kiln's optimizer state, and the layer."""
    ours = ["ln1_w", "ln1_b", "qkv_w", "qkv_b", "attn_out_w", "attn_out_b", "ln2_w", "ln2_b", "fc_w", "fc_b", "proj_w", "proj_b"]
    yield from [("wte", "wte", ...), ("wpe", "wpe", ...), ("lnfw", "lnf_w", ...), ("lnfb", "lnf_b", ...)]
    for l in range(layers):
        yield from ((theirs, f"block.{l}.{name}", l) for theirs, name in zip(FIELDS, ours))


def main(directory):
    trained = train(directory, "gpt2:layers=2,dim=32,heads=2,ctx=32,init_std=0.2")
    shards, out = directory / "shards", directory / "out"
    out.mkdir()
    run(KILN, "export", "--model", trained, "--to", "llmc", "--output", out / "model_00000004.bin", "--state", out / "state_00000004_00000.bin")
    loss, model = kiln_loss(trained, shards), Model(out / "model_00000004.bin")
    ours = loss_of(model.logits, shards)
    check(abs(ours - loss) < 1e-5, f"float32: loss {ours:.7f}, kiln eval {loss:.6f}")
    check(abs(kiln_loss(out / "model_00000004.bin", shards) - loss) < 2e-6, "kiln eval reads the file itself")

    run(KILN, "export", "--model", trained, "--to", "llmc", "--type", "bf16", "--output", out / "narrow.bin")
    run(KILN, "import", "--from", "llmc", "--input", out / "narrow.bin", "--output", directory / "narrow")
    ours, loss = loss_of(Model(out / "narrow.bin").logits, shards), kiln_loss(directory / "narrow", shards)
    check(abs(ours - loss) < 1e-5, f"bfloat16: loss {ours:.7f}, kiln eval of the import {loss:.6f}")

    tokens, end = tokenizer_of(out / "gpt2_tokenizer.bin")
    check(tokens[end] == b"<|endoftext|>", "the tokenizer has the end of text")
    text = (directory / "text.txt").read_bytes()
    for shard in shard_tokens(shards):
        for document in b"".join(tokens[id] for id in shard).split(b"<|endoftext|>"):
            assert document in text, document
    check(True, "the tokenizer decodes the shards to the text")

    data = (out / "state_00000004_00000.bin").read_bytes()
    header, values = header_of(data), np.frombuffer(data, "<f4", -1, 1024)
    check(list(header[:6]) == [20240527, 1, 1, 0, 1, 0] and header[10] == 4, "the state says version 1, one process, step 4")
    state = safetensors(next(trained.glob("checkpoint-*")) / "optimizer.safetensors")
    for arena, name in zip(np.split(values, 3), ["moment1", "moment2", None]):
        tensors = divide(arena, model.sizes)
        for theirs, own, layer in names_of(model.L):
            expected = state[f"{name}.{own}"] if name else model.w[theirs][layer][:model.V if own == "wte" else None]
            found = tensors[theirs][layer].reshape(-1, *expected.shape[1:])[:len(expected)] if own == "wte" else tensors[theirs][layer]
            assert (found.reshape(-1) == expected.reshape(-1).astype("<f4")).all(), (name, own)
    check(True, "the state has the moments and the master weights")

    run(KILN, "import", "--from", "llmc", "--input", out / "model_00000004.bin", "--state", out / "state_00000004_00000.bin", "--tokenizer",
        directory / "tok", "--output", directory / "back")
    again = safetensors(directory / "back" / "checkpoint-00000004" / "optimizer.safetensors")
    check(all((again[name] == state[name]).all() for name in state), "the state comes back with equal bits")
    run(TRAIN, "-i", shards, "-o", directory / "back", "-y", 1, "-b", 2, "-x", 6, "-s", 0)
    steps = [line.split()[0] for line in (directory / "back" / "main.log").read_text().splitlines() if " trl:" in line]
    check(steps == ["s:4", "s:5"], "the run is resumed at step 4")


with tempfile.TemporaryDirectory() as temporary:
    main(Path(temporary))
