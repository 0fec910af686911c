#!/usr/bin/env python3
"""Reads GGUF files of Kiln with llama.cpp and with the reader of the Python package gguf, and imports them again.

Random models of each architecture are exported as every type; q4_k only for the model that is wide enough. gguf's
reader must find the keys and the tensors that llama.cpp's converter would write; llama.cpp must compute Kiln's
probabilities, tokens and greedy text.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
import gguf
import numpy as np
import torch
import transformers
import xllamacpp

TEXTS = ["Hello world", "it's 12345 apples, isn't it?", "  two  spaces and\ttabs ", "漢字 and 🙂 café",
         "def f(x):    return x ** 2", "<|endoftext|> is text", "A" * 40, "1234567 89"]
PROMPT = "the quick brown fox"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q4_k": 14, "bf16": 32}
CONTEXT, NEW_TOKENS = 256, 100


def shapes():
    """name: (configuration, options of the tokenizer, tokenizer.ggml.model and pre)"""
    small = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=CONTEXT)
    llama3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=64)
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
    linear = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
    sentencepiece = ["--type", "sentencepiece-bpe", "--byte-fallback"]
    t = transformers
    return {
        "gpt2": (t.GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=CONTEXT),
                 ["--pre-tokenizer", "gpt2"], ("gpt2", "gpt-2")),
        "llama2": (t.LlamaConfig(**small, tie_word_embeddings=False), sentencepiece, ("llama", "default")),
        "llama3": (t.LlamaConfig(**small, tie_word_embeddings=True, rope_parameters=llama3),
                   ["--pre-tokenizer", "llama3"], ("gpt2", "llama-bpe")),
        "qwen2": (t.Qwen2Config(**small, tie_word_embeddings=True),
                  ["--pre-tokenizer", "qwen2", "--normalizer", "nfc"], ("gpt2", "qwen2")),
        "qwen3": (t.Qwen3Config(**small, head_dim=32, tie_word_embeddings=False),
                  ["--pre-tokenizer", "qwen2", "--normalizer", "nfc"], ("gpt2", "qwen2")),
        # The row lengths are multiples of 256, the block size of q4_k; and there are biases.
        "wide": (t.LlamaConfig(**{**small, "hidden_size": 256, "intermediate_size": 512}, attention_bias=True,
                               mlp_bias=True, tie_word_embeddings=True, rope_parameters=linear),
                 sentencepiece, ("llama", "default")),
        "yarn": (t.Qwen2Config(**small, tie_word_embeddings=False, rope_parameters=yarn),
                 ["--pre-tokenizer", "qwen2", "--normalizer", "nfc"], ("gpt2", "qwen2")),
    }


def require(good, *what):
    if not good:
        sys.exit("gguf_files.py: " + " ".join(str(part) for part in what))


class Kiln:
    def __init__(self, build):
        self.build = build

    def run(self, *args, program="bin/kiln", text=None):
        command = [str(self.build / program), *map(str, args)]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, input=text, capture_output=True, env=one_thread)
        require(result.returncode == 0, " ".join(command), "failed:", result.stderr.decode(errors="replace"))
        return result.stdout

    def export(self, model, path, kind):
        self.run("export", "--model", model, "--to", "gguf", "--output", path, "--type", kind)

    def encode(self, tokenizer, texts):
        """The ids of each text; they have no line breaks."""
        lines = self.run("tokenizer", "encode", "--tokenizer", tokenizer, text="\n".join(texts).encode()).decode()
        return [[int(i) for i in line.split()] for line in lines.splitlines()]

    def probabilities(self, model, ids):
        logits = np.frombuffer(self.run(model, *ids, program="dev/interop/logits"), np.float32)
        return softmax(logits.reshape(len(ids), -1)[-1])


def softmax(logits):
    e = np.exp(logits.astype(np.float64) - logits.max())
    return e / e.sum()


def make_model(kiln, directory, config, tokenizer_options):
    kiln.run("tokenizer", "train", "--input", "tests/fixtures/tokenizer/english.txt",
             "tests/fixtures/tokenizer/code.txt", "--vocab-size", 900, "--output", directory, *tokenizer_options)
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    config.vocab_size = 901  # one row more than tokens
    config.bos_token_id = config.pad_token_id = None
    config.eos_token_id = 2 if "sentencepiece-bpe" in tokenizer_options else 0
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    # Each matrix doubles what it multiplies: attention is peaked, so that a wrong RoPE changes much, but not one-hot.
    matrix_std = 2 / config.hidden_size**0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = matrix_std if parameter.dim() > 1 else 0.2
            offset = 1 if "norm" in name or "ln_" in name and name.endswith("weight") else 0
            parameter.copy_(offset + std * torch.randn_like(parameter))
    model.save_pretrained(directory)
    return model


class Server:
    """llama.cpp with a file."""

    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.warmup = CONTEXT, 1, False
        params.n_gpu_layers = 0
        params.verbosity = -1
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = 1
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to float16
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.port = 0
        self.server = xllamacpp.Server(params)

    def post(self, path, body):
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def tokenize(self, text):
        return self.post("/tokenize", {"content": text, "add_special": False, "parse_special": False})["tokens"]

    def probabilities(self, ids, vocab):
        """The probability of each token as the next one after the ids, before sampling."""
        # A sampled token that ends the text, or that is half a character, would not be returned.
        sampled = [[ids[0], 1000]]
        reply = self.post("/completion", {"prompt": ids, "n_predict": 1, "n_probs": vocab, "temperature": 0,
                                          "logit_bias": sampled, "cache_prompt": False})
        found = np.zeros(vocab)
        for row in reply["completion_probabilities"][0]["top_logprobs"]:
            found[row["id"]] = np.exp(row["logprob"])
        return found

    def greedy(self, ids, tokens):
        reply = self.post("/completion", {"prompt": ids, "n_predict": tokens, "temperature": 0,
                                          "return_tokens": True, "cache_prompt": False})
        return reply["tokens"]


def stored(name, values, config):
    """The name and the values of a tensor of transformers, as llama.cpp's converter would write them."""
    gpt2 = config.model_type == "gpt2"
    table = ({"transformer.": "", "h.": "blk.", "wte": "token_embd", "wpe": "position_embd", "ln_1": "attn_norm",
              "ln_2": "ffn_norm", "ln_f": "output_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
              "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "lm_head": "output"} if gpt2 else
             {"model.": "", "layers.": "blk.", "embed_tokens": "token_embd", "post_attention_layernorm": "ffn_norm",
              "input_layernorm": "attn_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
              "self_attn.o_proj": "attn_output", "mlp.": "ffn_", "self_attn.": "attn_", "_proj": "",
              "lm_head": "output"})
    result = name
    for old, new in table.items():
        result = result.replace(old, new)
    result = result.replace("norm.weight", "output_norm.weight") if result == "norm.weight" else result
    if gpt2 and ".c_" in name and name.endswith("weight"):
        values = values.T
    if config.model_type == "llama" and (".q_proj." in name or ".k_proj." in name):
        values = interleaved(values, config.num_attention_heads if ".q_proj." in name else config.num_key_value_heads)
    return result, np.ascontiguousarray(values)


def interleaved(values, heads):
    return values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def check_reader(name, path, kind, model, expected_tokenizer):
    """What gguf's own reader finds."""
    reader = gguf.GGUFReader(path)
    config = model.config
    value = lambda key: reader.fields[key].contents()
    arch = config.model_type
    require(value("general.architecture") == arch, name, "general.architecture is", value("general.architecture"))
    require(value("general.file_type") == FILE_TYPES[kind], name, kind, "has another general.file_type")
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads_kv = getattr(config, "num_key_value_heads", config.num_attention_heads)
    numbers = {"context_length": CONTEXT, "embedding_length": config.hidden_size,
               "block_count": config.num_hidden_layers, "attention.head_count": config.num_attention_heads,
               "attention.head_count_kv": heads_kv, "attention.key_length": head, "attention.value_length": head}
    for key, number in numbers.items():
        require(value(f"{arch}.{key}") == number, name, key, "is", value(f"{arch}.{key}"), "instead of", number)
    found = (value("tokenizer.ggml.model"), value("tokenizer.ggml.pre"))
    require(found == expected_tokenizer, name, "tokenizer is", found)
    require(value("tokenizer.chat_template") == CHAT_TEMPLATE, name, "has another chat template")
    require(len(value("tokenizer.ggml.tokens")) == config.vocab_size, name, "has another number of tokens")

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    factors = tensors.pop("rope_freqs.weight", None)
    require((factors is not None) == (name == "llama3"), name, "rope_freqs.weight")
    tied = config.tie_word_embeddings
    for tensor_name, values in model.state_dict().items():
        if tied and tensor_name == "lm_head.weight":
            continue
        stored_name, exact = stored(tensor_name, values.numpy(), config)
        tensor = tensors.pop(stored_name)
        what = f"{name} {kind}: tensor {stored_name}"
        if exact.ndim == 1 or stored_name == "position_embd.weight":
            require(tensor.tensor_type == gguf.GGMLQuantizationType.F32, what, "is no float32")
        if kind == "q4_k":  # which gguf's library cannot write
            decoded = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(exact.shape)
            error = np.sqrt(np.mean((decoded - exact) ** 2) / np.mean(exact ** 2))
            require(error < 0.1, what, "loses", error)
        else:
            theirs = gguf.quantize(exact, tensor.tensor_type)
            require(np.array_equal(tensor.data.view(np.uint8).ravel(), theirs.view(np.uint8).ravel()), what,
                    "has other bytes than gguf's own")
    require(not tensors, name, "has tensors that transformers' model lacks:", list(tensors))
    return [t.tensor_type for t in reader.tensors]


def unpermute(path, config):
    """Writes the rows of Q and K back in the order of transformers: what a converter without the permutation writes."""
    reader = gguf.GGUFReader(path, "r+")
    for tensor in reader.tensors:
        for part, heads in (("attn_q", config.num_attention_heads), ("attn_k", config.num_key_value_heads)):
            if part + "." in tensor.name:
                data = tensor.data
                rows = data.reshape(heads, data.shape[0] // heads // 2, 2, *data.shape[1:]).swapaxes(1, 2)
                data[:] = rows.reshape(data.shape)
    reader.data.flush()


def check_import(what, path, kiln, directory):
    """Kiln reads the same values from a file as gguf's reader."""
    kiln.run("import", "--from", "gguf", "--input", path, "--output", directory)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, values in model.state_dict().items():
        stored_name, values = stored(name, values.numpy(), model.config)
        if stored_name in tensors:  # the output layer may be tied
            tensor = tensors[stored_name]
            theirs = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
            require(np.array_equal(values, theirs), what, stored_name, "is read as other values")
    return model


def difference(a, b):
    return float(np.abs(a - b).max())


def probabilities_differ(kiln, directory, server, ids):
    """The largest difference of a probability, after some of the ids."""
    worst = 0
    for length in (1, 2, 17, len(ids)):
        ours = kiln.probabilities(directory, ids[:length])
        worst = max(worst, difference(ours, server.probabilities(ids[:length], len(ours))))
    return worst


def check_llama(name, path, kiln, directory, model):
    """llama.cpp computes what Kiln and transformers compute. Returns the ids it was tried on."""
    server = Server(path)
    *encoded, prompt = kiln.encode(directory, TEXTS + [PROMPT])
    for text, ours in zip(TEXTS, encoded):
        theirs = server.tokenize(text)
        require(ours == theirs, name, "tokens of", repr(text), "are", ours, "in Kiln and", theirs, "in llama.cpp")
    ids = sum(encoded[:4], [])
    with torch.no_grad():
        reference = softmax(model(torch.tensor([ids])).logits[0, -1].numpy())
    require(difference(kiln.probabilities(directory, ids), reference) < 1e-4, name, "Kiln differs from transformers")
    worst = probabilities_differ(kiln, directory, server, ids)
    require(worst < 1e-3, name, "the probabilities of the next token differ by", worst)
    generated = kiln.run("generate", "--model", directory, "--prompt", PROMPT, "--temperature", 0, "--max-new-tokens",
                         NEW_TOKENS)
    theirs = [token for token in server.greedy(prompt, NEW_TOKENS) if token != model.config.eos_token_id]
    decoded = kiln.run("tokenizer", "decode", "--tokenizer", directory, text=" ".join(map(str, prompt + theirs)).encode())
    require(generated.strip() == decoded.strip(), name, "generates", generated, "in Kiln and", decoded, "in llama.cpp")
    print(f"{name}: probabilities differ by at most {worst:.1e}; the same tokens, and {len(theirs)} greedy ones")
    return ids


def check_shape(kiln, directory, name, config, tokenizer_options, tokenizer):
    model = make_model(kiln, directory, config, tokenizer_options)
    path = directory.with_suffix(".gguf")
    for kind in FILE_TYPES:
        if kind == "q4_k" and name != "wide":
            continue
        kiln.export(directory, path, kind)
        check_reader(name, path, kind, model, tokenizer)
        imported = directory / kind
        check_import(f"{name} {kind}", path, kiln, imported)
        if kind == "f32":
            ids = check_llama(name, path, kiln, directory, model)
            require(kiln.encode(imported, TEXTS) == kiln.encode(directory, TEXTS), name, "imports another tokenizer")
            if config.model_type == "llama":
                unpermute(path, config)
                wrong = probabilities_differ(kiln, directory, Server(path), ids)
                require(wrong > 0.02, name, "without the permutation, the probabilities differ by", wrong)
                print(f"{name}: without the permutation they differ by {wrong:.2f}")
        elif name == "wide":
            # llama.cpp rounds activations to 8 bits before it multiplies them with quantized weights: by 1 % of their
            # standard deviation, so that a score or a logit, whose standard deviation is up to 4, is off by up to 0.25
            # after two layers, and a probability by a quarter of that.
            worst = probabilities_differ(kiln, imported, Server(path), ids)
            require(worst < 0.25 / 4, name, kind, "the probabilities of the next token differ by", worst)
            print(f"{name} {kind}: probabilities differ by at most {worst:.1e}")
        path.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", nargs="?", default="build", type=pathlib.Path, help="the folder of built programs")
    kiln = Kiln(parser.parse_args().build)
    transformers.utils.logging.disable_progress_bar()
    for name, shape in shapes().items():
        with tempfile.TemporaryDirectory() as temporary:
            check_shape(kiln, pathlib.Path(temporary) / name, name, *shape)


if __name__ == "__main__":
    main()
