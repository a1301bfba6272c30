"""Compress matrices for multiplication: E8 nested-lattice quantization in a documented file format.

>>> import numpy as np, latq
>>> x = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
>>> data = latq.encode(x, bits=5)
>>> latq.decode(data).shape
(256, 64)
"""

from typing import TYPE_CHECKING, Any

from latq.errors import (
    CorruptError,
    InputError,
    LatqError,
    LimitError,
    ParameterError,
    TruncatedError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from latq.api import (
        File,
        ProductReport,
        Tensor,
        VectorQuantizer,
        decode,
        encode,
        export,
        open,
        product,
        quantizer,
        save,
    )

__version__ = "0.1.0"
FORMAT_VERSION = (1, 0)

__all__ = [
    "FORMAT_VERSION",
    "CorruptError",
    "File",
    "InputError",
    "LatqError",
    "LimitError",
    "ParameterError",
    "ProductReport",
    "Tensor",
    "TruncatedError",
    "UnsupportedError",
    "VectorQuantizer",
    "__version__",
    "decode",
    "encode",
    "export",
    "open",
    "product",
    "quantizer",
    "save",
]


def __getattr__(name: str) -> Any:
    """Load the interface on first use, so that ``latq --version`` starts at once."""
    if name in __all__:
        from latq import api

        return getattr(api, name)
    raise AttributeError(f"module 'latq' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Also what is not loaded yet."""
    return sorted({*globals(), *__all__})
