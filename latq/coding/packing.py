"""Digits in [0, q) packed at close to log2(q) bits each (spec section 7).

q = r * 2^t with r in {1, 3, 5, 7}: the low t bits of every digit form one plane; the high parts, digits in radix r,
are joined into words of as many digits as waste little, and form another. The loss is at most 0.016 bit per digit.
"""

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.errors import CorruptError
from latq.limits import MAX_Q

Digits = npt.NDArray[np.unsignedinteger]

WORDS = kernels.WORDS


def split_ratio(q: int) -> tuple[int, int]:
    """(r, t) of q = r * 2^t with r odd."""
    t = (q & -q).bit_length() - 1
    return q >> t, t


def is_packable(q: int) -> bool:
    """Whether ``q`` is a nesting ratio of the format."""
    return 2 <= q <= MAX_Q and split_ratio(q)[0] in (1, *WORDS)


def packed_size(count: int, q: int) -> int:
    """Bytes of ``count`` packed digits."""
    radix, low_bits = split_ratio(q)
    size = -(-count * low_bits // 8)
    if radix > 1:
        per_word, width = WORDS[radix]
        size += -(-(-(-count // per_word) * width) // 8)
    return size


def pack(digits: Digits, q: int) -> bytes:
    """Pack flat ``digits`` < q."""
    radix, low_bits = split_ratio(q)
    if radix == 1:
        return kernels.pack_bits(digits, low_bits)
    low = kernels.pack_bits(digits & digits.dtype.type((1 << low_bits) - 1), low_bits) if low_bits else b""
    per_word, width = WORDS[radix]
    high = (digits >> digits.dtype.type(low_bits)).astype(np.uint8, copy=False)
    return low + kernels.pack_bits(kernels.join_digits(high, radix, per_word), width)


def unpack(data: bytes | memoryview, q: int, count: int) -> Digits:
    """Inverse of :func:`pack`; ``data`` is ``packed_size(count, q)`` bytes. CorruptError on a word out of range."""
    digits = kernels.unpack_digits(data, *split_ratio(q), count)
    if digits is None:
        raise CorruptError("a packed word is out of range")
    return digits
