"""The models under a method: rows of the table."""

from model import BATCH, LanguageModel, SentenceModel, cached_as_is, unchanged
from moments import Moments, by_matrix, load, save
from scores import gap, likeness

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
    """

    def __init__(self, folder, text, tokens, calibration, moments):
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

    def rows(self, method, bits, settings):
        """One per setting that the method has; its weights are coded once."""
        weights, rate = method.weights(self.matrices, self.moments, bits)
        for setting in settings:
            makers = {"KV": method.cache, "A": method.inputs}
            tallies = {part: Tally(makers[part], bits) for part in setting.split("+")[1:] if makers[part]}
            if 1 + len(tallies) < len(setting.split("+")):
                continue
            replaced = {"cache": tallies.get("KV", cached_as_is), "inputs": as_inputs(tallies.get("A"))}
            losses = self.model.losses(self.windows, weights=weights, **replaced)
            rates = {part: tally.rate for part, tally in tallies.items()}
            yield {"setting": setting, "W": rate, **rates, **vars(gap(losses, self.exact))}


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

    def rows(self, method, bits):
        weights, rate = method.weights(self.matrices, self.moments, bits)
        embeddings = self.model.embed(self.model.sentences, weights=weights)
        yield {"setting": "sentences", "W": rate, **vars(likeness(embeddings, self.exact))}
