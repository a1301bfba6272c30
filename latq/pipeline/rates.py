"""The rate of each tensor of a source: the one asked for, or its part of one that all of them share."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod

from latq.container import container_overhead, dump_canonical
from latq.errors import ParameterError
from latq.kernels.elementary import log2
from latq.pipeline.decide import ENTRY_BYTES, EncodeOptions, known_inputs, lossless_at_sight
from latq.pipeline.plan import HIGHEST_RATE, LOWEST_RATE
from latq.pipeline.raw import coded_pieces, raw_codec
from latq.pipeline.scalar_plan import RATES
from latq.sources import Source, SourceTensor
from latq.sources.select import select

# Halvings of an interval of rates.
_STEPS = 60


def asked_of(source: Source, where: str, options: EncodeOptions) -> list[EncodeOptions]:
    """What is asked of each tensor, by the last pattern of ``options.bits_for`` that matches its name.

    InputError for a pattern that matches none.
    """
    of_name = dict.fromkeys([tensor.name for tensor in source.tensors], options)
    for glob, rate in options.bits_for:
        of_name |= dict.fromkeys(select(of_name, [glob], where), options.at(rate))
    return [of_name[tensor.name] for tensor in source.tensors]


def allocated(
    source: Source, where: str, asked: Sequence[EncodeOptions], tied: Mapping[int, int]
) -> list[EncodeOptions]:
    """``asked``, with a rate of its own for each tensor that is to be allocated one, so that the file has the rate that
    was asked of them, over the entries that it stores, and the sum of the relative squared errors is least: of their
    products with the inputs where these are known.

    ParameterError if the other tensors leave too little.
    """
    stored = [i for i in range(len(source.tensors)) if i not in tied]
    sizes = [prod(tensor.shape) for tensor in source.tensors]
    shared = [i for i in stored if asked[i].allocate and lossless_at_sight(source.tensors[i], source, asked[i]) is None]
    if not shared:
        return list(asked)
    options = asked[shared[0]]
    low, high = RATES[options.coding or "fixed"] if options.codec == "scalar" else (LOWEST_RATE, HIGHEST_RATE)
    total = sum(sizes[i] for i in stored)
    taken = 8.0 * (len(dump_canonical(source.extras)) + sum(_entry_bytes(source.tensors[i]) for i in tied))
    for i in set(stored).difference(shared):
        if lossless_at_sight(source.tensors[i], source, asked[i]) is None:
            taken += asked[i].bits * sizes[i]
        else:
            taken += 8 * _lossless_bytes(source.tensors[i], options.threads)
    budget = options.bits * total - taken
    if budget < low * sum(sizes[i] for i in shared):
        raise ParameterError(
            f"{where}: {options.bits:g} bits per entry are too little: what is lossless or has a rate of its own takes "
            f"{taken / total:.3g} of them, and the rest needs {low:g} per entry; raise --bits"
        )
    others = Counter(tied.values())
    weights = [(1 + others[i]) * _error_factor(source, source.tensors[i], asked[i]) for i in shared]
    rates = least_error_rates([sizes[i] for i in shared], weights, budget, low, high)
    found = list(asked)
    for i, rate in zip(shared, rates, strict=True):
        found[i] = options.at(rate)
    return found


def _error_factor(source: Source, tensor: SourceTensor, options: EncodeOptions) -> float:
    """Error of the products with the inputs of a tensor, over that with white ones."""
    if options.calibration is None or not tensor.shape:
        return 1.0
    n = tensor.shape[source.default_axis if options.axis is None else options.axis]
    known = known_inputs(tensor.name, n, options, options.threads)
    return known.error_factor if known else 1.0


def least_error_rates(
    entries: Sequence[int], weights: Sequence[float], budget: float, low: float, high: float
) -> list[float]:
    """Rates R from ``low`` to ``high`` of the least sum of w 2^(-2 R) with a sum of N R of at most ``budget``, N and w
    being ``entries`` and ``weights`` (> 0): R = level - log2(N / w) / 2 in between.

    2^(-2 R) is the relative squared error up to a factor that differs little among tensors. Had it been known for those
    of MiniLM and SmolLM2, the sum of their errors would have been 0.3 % less: no reason to read and plan them twice.
    """
    depths = [log2(n / w) / 2 for n, w in zip(entries, weights, strict=True)]

    def rates(level: float) -> list[float]:
        return [min(max(level - depth, low), high) for depth in depths]

    below, above = low + min(depths), high + max(depths)
    for _ in range(_STEPS):
        middle = (below + above) / 2
        if sum(n * rate for n, rate in zip(entries, rates(middle), strict=True)) <= budget:
            below = middle
        else:
            above = middle
    return rates(below)


def _lossless_bytes(tensor: SourceTensor, threads: int) -> int:
    """What a lossless tensor takes in the file."""
    payloads = (len(payload) for _, payload in coded_pieces(tensor, raw_codec(tensor), threads))
    return _entry_bytes(tensor) + sum(size + container_overhead(size) for size in payloads)


def _entry_bytes(tensor: SourceTensor) -> int:
    """About what the metadata says of a tensor."""
    return ENTRY_BYTES + 2 * len(tensor.name.encode())
