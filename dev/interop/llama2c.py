"""Reads what Kiln writes for llama2.c with a reader and a Llama of its own, and compares losses with kiln eval.

    python3 dev/interop/llama2c.py [BUILD]
"""
import struct
import tempfile
from pathlib import Path

import numpy as np
from support.tiny_model import KILN, attention, check, kiln_loss, loss_of, run, train


class Model:
    def __init__(self, path):
        data, at, group = Path(path).read_bytes(), 0, 0
        version = 0
        if data[:4] == struct.pack("<I", 0x616B3432):
            version, at = struct.unpack("<i", data[4:8])[0], 8
        C, F, L, NH, NKV, V, max_T = struct.unpack("<7i", data[at:at + 28])
        shared = V > 0 if version == 0 else data[36] != 0
        V, HS = abs(V), C // NH
        if version == 2:
            group, = struct.unpack("<i", data[37:41])
        at = 28 if version == 0 else 256

        def take(count, *shape, quantized=True):
            """`count` tensors of a shape."""
            nonlocal at
            n, tensors = int(np.prod(shape)), []
            for _ in range(count):
                if version == 2 and quantized:
                    q = np.frombuffer(data, "i1", n, at).reshape(-1, group)
                    scales = np.frombuffer(data, "<f4", n // group, at + n)
                    values, at = q * scales[:, None], at + n + n // group * 4
                else:
                    values, at = np.frombuffer(data, "<f4", n, at), at + 4 * n
                tensors.append(values.astype(float).reshape(shape))
            return tensors

        def norms(count):
            return take(count, C, quantized=False)

        def matrices():
            return take(L, C, C), take(L, NKV * HS, C), take(L, NKV * HS, C), take(L, C, C)

        if version == 0:
            wte, = take(1, V, C)
            ln1, qkvo, ln2 = norms(L), matrices(), norms(L)
            w1, w2, w3, (lnf,) = take(L, F, C), take(L, C, F), take(L, F, C), norms(1)
            take(2, max_T, HS // 2)
        else:
            ln1, ln2, (lnf,) = norms(L), norms(L), norms(1)
            (wte,), qkvo = take(1, V, C), matrices()
            w1, w2, w3 = take(L, F, C), take(L, C, F), take(L, F, C)
        self.head = wte if shared else take(1, V, C)[0]
        assert at == len(data), "the file has another size than its header says"
        self.blocks = list(zip(ln1, *qkvo, ln2, w1, w2, w3))
        self.wte, self.lnf, self.NH, self.NKV, self.HS, self.version = wte, lnf, NH, NKV, HS, version

    def rope(self, x):
        """Elements 2 j and 2 j + 1 of a head make a pair, as in run.c."""
        t = len(x)
        angles = np.outer(np.arange(t), 10000.0 ** -(np.arange(0, self.HS, 2) / self.HS))[:, None]
        x = x.reshape(t, -1, self.HS // 2, 2)
        a, b = x[..., 0], x[..., 1]
        turned = np.stack([a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)], axis=-1)
        return turned.reshape(t, -1, self.HS)

    def halves(self, x):
        """The RoPE of Hugging Face's Llama, for which these rows are in the wrong order."""
        x = x.reshape(len(x), -1, 2, self.HS // 2).swapaxes(2, 3).reshape(len(x), -1)
        return Model.rope(self, x).reshape(len(x), -1, self.HS // 2, 2).swapaxes(2, 3).reshape(len(x), -1, self.HS)

    def logits(self, tokens):
        def norm(x, weight):
            return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5) * weight

        x = self.wte[tokens]
        for ln1, wq, wk, wv, wo, ln2, w1, w2, w3 in self.blocks:
            h = norm(x, ln1)
            x = x + attention(self.rope(h @ wq.T), self.rope(h @ wk.T), (h @ wv.T).reshape(len(x), -1, self.HS)) @ wo.T
            h = norm(x, ln2)
            gate = h @ w1.T
            x = x + (gate / (1 + np.exp(-gate)) * (h @ w3.T)) @ w2.T
        return norm(x, self.lnf) @ self.head.T


def main(directory):
    for model in ["llama:layers=2,dim=32,heads=4,kv_heads=2,ffn=48,ctx=32,tied=1,init_std=0.4",
                  "llama:layers=2,dim=32,heads=2,kv_heads=2,ffn=64,ctx=32,tied=0,init_std=0.4"]:
        trained = train(directory, model)
        shards, loss = directory / "shards", kiln_loss(trained, directory / "shards")
        for type, version in [("f32", 0), ("f32-v1", 1), ("q8_0", 2)]:
            out = directory / (trained.name + "-" + type)
            out.mkdir()
            run(KILN, "export", "--model", trained, "--to", "llama2c", "--type", type, "--output", out / "model.bin")
            read = Model(out / "model.bin")
            run(KILN, "import", "--from", "llama2c", "--input", out / "model.bin", "--output", out / "back")
            back = kiln_loss(out / "back", shards)
            ours = loss_of(read.logits, shards)
            check(read.version == version and abs(ours - back) < 1e-5, f"{type}: loss {ours:.7f}, kiln eval of the import {back:.6f}")
            check(abs(ours - loss) < (1e-5 if version < 2 else 0.05), f"{type}: kiln eval of the run {loss:.6f}")
            other = Model(out / "model.bin")
            other.rope = lambda x: Model.halves(other, x)
            wrong = loss_of(other.logits, shards)
            check(abs(wrong - loss) > 1e-3, f"{type}: with RoPE of halves it is another model: loss {wrong:.4f}")


with tempfile.TemporaryDirectory() as temporary:
    main(Path(temporary))
