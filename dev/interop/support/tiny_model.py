"""What llmc.py and llama2c.py share: a tiny trained model, its data, and the loss as kiln eval defines it. numpy only."""
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

BUILD = Path(sys.argv[1] if len(sys.argv) > 1 else "build").resolve()
KILN, TRAIN = BUILD / "bin/kiln", BUILD / "bin/train_gpt2"
T = 16  # tokens in a sequence


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(good, what):
    if not good:
        sys.exit(f"{Path(sys.argv[0]).name}: {what}")
    print("ok:", what)


def train(directory, model, steps=4):
    """A run of a few steps on made-up text, and its shards, which have a byte-level tokenizer."""
    random = np.random.default_rng(3)
    words = ["".join(random.choice(list("abcdefgh"), size=random.integers(1, 6))) for _ in range(60)]
    (directory / "text.txt").write_text("\n".join(" ".join(random.choice(words, size=9)) for _ in range(200)) + "\n")
    if not (directory / "shards").exists():
        run(KILN, "tokenizer", "train", "--input", directory / "text.txt", "--vocab-size", 300, "--output", directory / "tok")
        run(KILN, "prepare", "--input", directory / "text.txt", "--tokenizer", directory / "tok", "--output", directory / "shards",
            "--documents", "line", "--val-fraction", 0.2)
    output = directory / ("run-" + re.sub(r"\W", "-", model))
    run(TRAIN, "-i", directory / "shards", "-e", model, "-b", 2, "-t", T, "-x", steps, "-n", steps, "-s", 0, "-l", 0.01, "-o", output)
    return output


def kiln_loss(model, shards):
    """--force: an imported model has the same vocabulary, but not the file that made the shards."""
    return float(re.search(r"^loss (\S+)$", run(KILN, "eval", "--model", model, "--data", shards, "--sequence-length", T, "--force"), re.M)[1])


def shard_tokens(shards):
    """The tokens of each validation shard: a header of 256 int32, then uint16."""
    for path in sorted(Path(shards).glob("val_*.bin")):
        data = path.read_bytes()
        magic, version, tokens = struct.unpack("<3i", data[:12])
        assert (magic, version) == (20240520, 1)
        yield np.frombuffer(data, "<u2", tokens, 1024).astype(int)


def loss_of(logits_of, shards):
    """The mean loss of all targets. Each sequence of T tokens begins without context. logits_of: (t) -> (t, V)."""
    total, count = 0.0, 0
    for tokens in shard_tokens(shards):
        for first in range(0, len(tokens) - 1, T):
            row = tokens[first:first + T + 1]
            logits = logits_of(row[:-1])
            top = logits.max(axis=1)
            total += (top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(row) - 1), row[1:]]).sum()
            count += len(row) - 1
    return total / count


def attention(q, k, v):
    """Causal, q (t, NH, HS), k and v (t, NKV, HS): query heads share the others in groups."""
    t, NH, HS = q.shape
    k, v = (np.repeat(x, NH // x.shape[1], axis=1) for x in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(HS)
    scores[:, np.triu(np.ones((t, t), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    return np.einsum("hij,jhd->ihd", weights / weights.sum(axis=2, keepdims=True), v).reshape(t, -1)


def safetensors(path):
    data = Path(path).read_bytes()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data, "<f4", int(np.prod(one["shape"])), 8 + size + one["data_offsets"][0]).reshape(one["shape"])
            for name, one in header.items()}
