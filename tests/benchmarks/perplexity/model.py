"""A language model and a sentence model in PyTorch, whose weights, inputs and cache of attention can be replaced.

Both take ``weights``, which stand for their own by name, and ``inputs``, a function of the names of the matrices that a
tensor (..., n) is multiplied by, and of that tensor. The language model also takes ``cache``, a function of keys and
values (..., n).
"""

import json

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F

CONTEXT = 512
BATCH = 4  # windows
LOGITS = 256  # tokens whose logits are held at a time


def unchanged(names, x):
    return x


def cached_as_is(x):
    return x


class LanguageModel:
    """Of the Llama architecture: folder with config.json, model.safetensors and tokenizer.json."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.matrices = sorted(name for name, w in self.weights.items() if w.ndim == 2 and name != "embed")

    def windows(self, path, tokens):
        """The first ``tokens`` tokens of a text or a few more, as windows (count, CONTEXT) that start with BOS."""
        # A token of English has four characters; twice that is enough of the text.
        ids = self.tokenizer.encode(path.read_text(encoding="utf-8")[: 8 * tokens], add_special_tokens=False).ids
        count = min(-(-tokens // (CONTEXT - 1)), len(ids) // (CONTEXT - 1))
        body = torch.tensor(ids[: count * (CONTEXT - 1)]).view(count, CONTEXT - 1)
        return F.pad(body, (1, 0), value=self.config["bos"])

    def losses(self, windows, **replaced):
        """Nats of every token but the first, (windows, CONTEXT - 1)."""
        return torch.cat([self._losses(batch, **replaced) for batch in windows.split(BATCH)])

    @torch.inference_mode()
    def _losses(self, ids, **replaced):
        hidden = self.hidden(ids, **replaced)[:, :-1].flatten(0, 1).split(LOGITS)
        targets = ids[:, 1:].flatten().split(LOGITS)
        head = self.weights["embed"].T
        parts = (F.cross_entropy(h @ head, t, reduction="none") for h, t in zip(hidden, targets, strict=True))
        return torch.cat(list(parts)).view(len(ids), -1)

    @torch.inference_mode()
    def hidden(self, ids, weights=(), inputs=unchanged, cache=cached_as_is):
        """What the head sees, (..., tokens, width), of token ids (..., tokens)."""
        w = self.weights | dict(weights)
        turn = self._positions(ids.shape[-1])

        def norm(x, name):
            return F.rms_norm(x, x.shape[-1:], w[name], self.config["eps"])

        def linear(x, *names):
            x = inputs(names, x)
            return [x @ w[name].T for name in names]

        def heads(x, count):
            return x.unflatten(-1, (count, -1)).transpose(-2, -3)

        x = w["embed"][ids]
        for layer in (f"layers.{index}." for index in range(self.config["n_layers"])):
            q, k, v = linear(norm(x, layer + "attn_norm"), layer + "wq", layer + "wk", layer + "wv")
            q, k, v = heads(q, self.config["n_heads"]), *(heads(y, self.config["n_kv_heads"]) for y in (k, v))
            attended = F.scaled_dot_product_attention(
                turn(q), cache(turn(k)), cache(v), is_causal=True, enable_gqa=True
            )
            x = x + linear(attended.transpose(-2, -3).flatten(-2), layer + "wo")[0]
            gate, up = linear(norm(x, layer + "ffn_norm"), layer + "w_gate", layer + "w_up")
            x = x + linear(F.silu(gate) * up, layer + "w_down")[0]
        return norm(x, "norm")

    def _positions(self, tokens):
        """Rotary embedding of (..., tokens, n), by pairs of neighbours."""
        n = self.weights["layers.0.wq"].shape[0] // self.config["n_heads"]
        frequencies = self.config["rope_theta"] ** (-torch.arange(0, n, 2) / n)
        angles = torch.outer(torch.arange(tokens), frequencies)
        turns = torch.polar(torch.ones_like(angles), angles)

        def turn(x):
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * turns).flatten(-2)

        return turn


class SentenceModel:
    """A BERT that pools means (all-MiniLM-L6-v2): folder with model.safetensors, tokenizer.json and sentences.txt."""

    HEADS = 12

    def __init__(self, folder):
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)
        self.sentences = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
        self.matrices = sorted(
            name.removesuffix(".weight")
            for name, w in self.weights.items()
            if w.ndim == 2 and name.startswith("encoder.")
        )

    def embed(self, sentences, **replaced):
        """Unit vectors (sentences, width)."""
        tokens = (torch.tensor(code.ids) for code in self.tokenizer.encode_batch(sentences))
        return torch.stack([self._embed(ids, **replaced) for ids in tokens])

    @torch.inference_mode()
    def _embed(self, ids, weights=(), inputs=unchanged):
        w = self.weights | {f"{name}.weight": matrix for name, matrix in dict(weights).items()}

        def norm(x, name):
            name = f"{name}.LayerNorm"
            return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-12)

        def linear(x, *names):
            x = inputs(names, x)
            return [F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"]) for name in names]

        def embedding(kind):
            return w[f"embeddings.{kind}_embeddings.weight"]

        x = embedding("word")[ids] + embedding("position")[: len(ids)] + embedding("token_type")[0]
        x = norm(x, "embeddings")
        for layer in sorted({name.split(".attention")[0] for name in self.matrices if ".attention" in name}):
            attention = f"{layer}.attention"
            qkv = linear(x, *(f"{attention}.self.{part}" for part in ("query", "key", "value")))
            q, k, v = (y.unflatten(-1, (self.HEADS, -1)).transpose(0, 1) for y in qkv)
            attended = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
            x = norm(linear(attended, f"{attention}.output.dense")[0] + x, f"{attention}.output")
            inner = F.gelu(linear(x, f"{layer}.intermediate.dense")[0])
            x = norm(linear(inner, f"{layer}.output.dense")[0] + x, f"{layer}.output")
        return F.normalize(x.mean(0), dim=0)
