"""The models of the benchmark in PyTorch, written to be fast there: packed projections, fused attention, fused AdamW.

Linear layers, norms, attention and the loss are PyTorch's own kernels; the wiring is the least it takes. On these CPUs
it beats transformers' classes, whose masks, cache objects and casts cost time the kernels do not.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


def rotation(positions, HS, theta):
    angles = positions[:, None] * theta ** (-torch.arange(0, HS, 2).double() / HS)  # (T, HS/2)
    angles = torch.cat([angles, angles], dim=1)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):  # (B, heads, T, HS)
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


# Other values of the model's fields are a KeyError.
def make_norm(c):
    return {"layernorm": nn.LayerNorm, "rmsnorm": nn.RMSNorm}[c["norm"]](c["C"], eps=c["norm_eps"])


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, self.NH, self.NKV, self.HS = c["C"], c["NH"], c["NKV"], c["HS"]
        self.swiglu = {"gelu": False, "swiglu": True}[c["mlp"]]
        self.rope = {"learned": False, "rope": True}[c["position"]]
        self.ln1, self.ln2 = make_norm(c), make_norm(c)
        self.qkv = nn.Linear(C, (self.NH + 2 * self.NKV) * self.HS, bias=c["qkv_bias"])
        self.out = nn.Linear(self.NH * self.HS, C, bias=c["linear_bias"])
        self.fc = nn.Linear(C, c["F"] * (2 if self.swiglu else 1), bias=c["linear_bias"])
        self.proj = nn.Linear(c["F"], C, bias=c["linear_bias"])

    def forward(self, x, turn, cache=None, at=0):
        B, T, C = x.shape
        NH, NKV, HS = self.NH, self.NKV, self.HS
        q, k, v = self.qkv(self.ln1(x)).view(B, T, NH + 2 * NKV, HS).transpose(1, 2).split([NH, NKV, NKV], dim=1)
        if self.rope:
            q, k = rotate(q, *turn), rotate(k, *turn)
        if cache is not None:  # (2, B, NKV, max_T, HS), written in place
            cache[0, :, :, at : at + T], cache[1, :, :, at : at + T] = k, v
            k, v = cache[0, :, :, : at + T], cache[1, :, :, : at + T]
        y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, enable_gqa=NKV != NH)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, NH * HS))
        h = self.fc(self.ln2(x))
        if self.swiglu:
            gate, up = h.chunk(2, dim=-1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(h, approximate="tanh")
        return x + self.proj(h)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.wte = nn.Embedding(c["V"], c["C"])
        self.wpe = nn.Embedding(c["max_T"], c["C"]) if c["position"] == "learned" else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["L"]))
        self.lnf = make_norm(c)
        self.head = nn.Linear(c["C"], c["V"], bias=False)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(0, 0.02) if p.ndim > 1 else None
        if c["tied_embeddings"]:
            self.head.weight = self.wte.weight
        cos, sin = rotation(torch.arange(c["max_T"]).double(), c["HS"], c["rope_theta"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def hidden(self, tokens, caches=None, at=0):
        T = tokens.shape[1]
        x = self.wte(tokens)
        if self.wpe is not None:
            x = x + self.wpe.weight[at : at + T]
        turn = self.cos[at : at + T], self.sin[at : at + T]
        for i, block in enumerate(self.blocks):
            x = block(x, turn, None if caches is None else caches[i], at)
        return self.lnf(x)

    def forward(self, tokens, targets):
        logits = self.head(self.hidden(tokens))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def next_logits(self, tokens, caches, at):
        return self.head(self.hidden(tokens, caches, at)[:, -1])
