"""The models under a method: rows of the table."""

from functools import partial

from model import BATCH, LanguageModel, SentenceModel, cached_as_is, unchanged
from moments import Moments, by_matrix, load, save
from scores import gap, likeness
from shelf import kept

SETTINGS = ("W", "W+KV", "W+KV+A")
CALIBRATION_TOKENS = 16384
CALIBRATION_SENTENCES = 300


class Tally:
    """Codes all vectors on their way by one method, and counts their bits."""

    def __init__(self, make, bits):
        self.make, self.bits, self.coders = make, bits, {}
        self.stored = self.entries = 0

    def __call__(self, x):
        n = x.shape[-1]
        if n not in self.coders:
            self.coders[n] = self.make(self.bits, n)
        self.stored += self.coders[n].bits * x.numel()
        self.entries += x.numel()
        return self.coders[n](x.reshape(-1, n)).view(x.shape)

    @property
    def rate(self):
        return self.stored / self.entries


class LanguageTrial:
    """Nats per token of a language model on a text.

    Second moments come from ``moments``; where there is no such file, it is made from the text ``calibration``.
    Quantized weights are kept in the folder ``shelf``, if given.
    """

    def __init__(self, folder, text, tokens, calibration, moments, shelf=None):
        self.shelf = shelf
        self.model = LanguageModel(folder)
        self.matrices = {name: self.model.weights[name] for name in self.model.matrices}
        if not moments.exists():
            collected = Moments()
            for batch in self.model.windows(calibration, CALIBRATION_TOKENS).split(BATCH):
                self.model.hidden(batch, inputs=collected)
            save(collected, moments)
        self.moments = load(moments)
        self.windows = self.model.windows(text, tokens)
        self.exact = self.model.losses(self.windows)
        self._made = (None, None)

    @property
    def heading(self):
        return f"{self.exact.numel()} tokens, {self.exact.double().mean():.4f} nats each in float32"

    def settings(self, method):
        """Those that the method has a quantizer for."""
        has = {"W": True, "KV": method.cache, "A": method.inputs}
        return [setting for setting in SETTINGS if all(has[part] for part in setting.split("+"))]

    def numbers(self, method, bits, setting):
        makers = {"KV": method.cache, "A": method.inputs}
        tallies = {part: Tally(makers[part], bits) for part in setting.split("+")[1:]}
        weights, rate = self._weights(method, bits, bits if "A" in tallies else None)
        replaced = {"cache": tallies.get("KV", cached_as_is), "inputs": as_inputs(tallies.get("A"))}
        losses = self.model.losses(self.windows, weights=weights, **replaced)
        rates = {part: tally.rate for part, tally in tallies.items()}
        return {"W": rate, **rates, **vars(gap(losses, self.exact))}

    def _weights(self, method, bits, activation_bits):
        aware = method.aware and activation_bits
        options = {"activation_bits": activation_bits} if aware else {}
        name = f"{method.name} {bits}" + f" for {activation_bits}" * bool(aware)
        if self._made[0] != name:
            make = partial(method.weights, self.matrices, self.moments, bits, **options)
            self._made = name, kept(self.shelf, name, make)
        return self._made[1]


def as_inputs(tally):
    return (lambda names, x: tally(x)) if tally else unchanged


class SentenceTrial:
    """Embeddings of a sentence model with quantized weights, calibrated on paragraphs of a text."""

    def __init__(self, folder, calibration):
        self.model = SentenceModel(folder)
        self.matrices = {name: self.model.weights[f"{name}.weight"] for name in self.model.matrices}
        paragraphs = calibration.read_text(encoding="utf-8").split("\n\n")
        collected = Moments()
        self.model.embed([p for p in paragraphs if len(p) > 80][:CALIBRATION_SENTENCES], inputs=collected)
        self.moments = by_matrix(collected)
        self.exact = self.model.embed(self.model.sentences)

    def settings(self, method):
        return ["sentences"]

    def numbers(self, method, bits, setting):
        weights, rate = method.weights(self.matrices, self.moments, bits)
        embeddings = self.model.embed(self.model.sentences, weights=weights)
        return {"W": rate, **vars(likeness(embeddings, self.exact))}
