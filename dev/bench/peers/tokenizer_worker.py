#!/usr/bin/env python3
"""One measurement of a peer of Kiln's tokenizer: prints a line of JSON with seconds, bytes, tokens and peak memory.

    tokenizer_worker.py encode tokenizers|tiktoken VOCABULARY FILE BYTES
    tokenizer_worker.py train FILE VOCAB_SIZE
"""
import base64
import json
import os
import resource
import sys
import time

DOCUMENT_BYTES = 10_000  # as bench_tokenizer.cpp cuts


def documents(path, limit):
    with open(path, "rb") as file:
        text = file.read(limit)
    text = text[: text.rfind(b"\n") + 1] or text
    result, at = [], 0
    while at < len(text):
        newline = text.find(b"\n", min(at + DOCUMENT_BYTES, len(text)))
        end = len(text) if newline < 0 else newline + 1
        result.append(text[at:end].decode())
        at = end
    return result, len(text)


def encoder(peer, vocabulary):
    if peer == "tokenizers":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(vocabulary)
        tokenizer.encode_special_tokens = True  # <|endoftext|> in a text is text, as for the others
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    import tiktoken
    from tiktoken_ext import openai_public

    with open(vocabulary, "rb") as file:
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in file)}
    return tiktoken.Encoding("gpt2", pat_str=openai_public.r50k_pat_str, mergeable_ranks=ranks, special_tokens={}).encode_ordinary


def encode(peer, vocabulary, path, limit):
    texts, size = documents(path, int(limit))
    encode_one = encoder(peer, vocabulary)
    encode_one(texts[0])
    start = time.perf_counter()
    tokens = sum(len(encode_one(text)) for text in texts)
    return dict(seconds=time.perf_counter() - start, bytes=size, tokens=tokens)


def train(path, vocab_size):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=int(vocab_size), special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    start = time.perf_counter()
    tokenizer.train([path], trainer)
    return dict(seconds=time.perf_counter() - start, bytes=os.path.getsize(path), tokens=tokenizer.get_vocab_size())


def main():
    result = {"encode": encode, "train": train}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
