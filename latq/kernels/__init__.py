"""Kernels: defined in NumPy (reference, points, paths, search, codebook, vectors, products, matrices), native where
built.

``LATQ_KERNELS=native|reference`` forces one of the two; both give the same bits. Import kernels from here.
"""

import os

from latq.kernels.paths import Trellis
from latq.kernels.points import BLOCK, COST_UNIT, REACH, Classes, Decoded, PointModel, PointStream
from latq.kernels.products import Integers
from latq.kernels.reference import (
    RANS_LOW,
    WORDS,
    RansReader,
    RansTables,
    add8,
    codeword,
    coset_points,
    digit_type,
    from_digits,
    nearest_point,
    rans_encode,
    representative,
    signs,
    to_digits,
)
from latq.kernels.search import PRICES, NestedCode, gauge
from latq.kernels.vectors import finite

__all__ = [
    "BLOCK",
    "COST_UNIT",
    "IMPLEMENTATION",
    "PRICES",
    "RANS_LOW",
    "REACH",
    "WORDS",
    "Classes",
    "Decoded",
    "Integers",
    "NestedCode",
    "PointModel",
    "PointStream",
    "RansReader",
    "RansTables",
    "Trellis",
    "add8",
    "add_products",
    "cheapest_scales",
    "choose_paths",
    "choose_points",
    "choose_scales",
    "codeword",
    "copy_transposed",
    "coset_points",
    "count_symbols",
    "decode_paths",
    "decode_points",
    "digit_type",
    "divided",
    "encode_paths",
    "encode_points",
    "estimated_errors",
    "finite",
    "from_digits",
    "fwht",
    "gauge",
    "guess_scales",
    "join_digits",
    "narrowed",
    "nearest_point",
    "new_array",
    "pack_bits",
    "path_costs",
    "peak",
    "point_costs",
    "put_products",
    "quantize",
    "rans_decode_symbols",
    "rans_encode",
    "rans_encode_symbols",
    "representative",
    "restored",
    "rotate",
    "row_moments",
    "row_squares",
    "row_sums",
    "scaled_codewords",
    "signs",
    "split_digits",
    "squared_norms",
    "subtract_product",
    "summed_energies",
    "to_digits",
    "tree_sum",
    "unpack_bits",
    "unpack_digits",
    "unrotate",
    "widened",
]


def _wants_native() -> bool:
    """Whether the native kernels are to be used; ImportError when they are asked for and not there."""
    wanted = os.environ.get("LATQ_KERNELS", "")
    if wanted not in ("", "native", "reference"):
        raise ImportError(f"LATQ_KERNELS is {wanted!r}; use native or reference")
    if wanted == "reference":
        return False
    try:
        import latq.kernels._core  # noqa: F401
    except ImportError as error:
        if wanted == "native":
            raise ImportError(
                "LATQ_KERNELS=native, but latq was installed without its native kernels: install a C++20 compiler "
                f"(GCC 12 or Clang 15, or later), then install latq again ({error})"
            ) from None
        return False
    return True


if _wants_native():
    from latq.kernels import compiled
    from latq.kernels.compiled import (
        add_products,
        cheapest_scales,
        choose_scales,
        copy_transposed,
        count_symbols,
        divided,
        estimated_errors,
        fwht,
        guess_scales,
        join_digits,
        narrowed,
        new_array,
        pack_bits,
        peak,
        put_products,
        quantize,
        rans_decode_symbols,
        rans_encode_symbols,
        restored,
        rotate,
        row_moments,
        row_squares,
        row_sums,
        scaled_codewords,
        split_digits,
        squared_norms,
        subtract_product,
        summed_energies,
        tree_sum,
        unpack_bits,
        unpack_digits,
        unrotate,
        widened,
    )
    from latq.kernels.compiled_points import (
        choose_paths,
        choose_points,
        decode_paths,
        decode_points,
        encode_paths,
        encode_points,
        path_costs,
        point_costs,
    )

    IMPLEMENTATION = f"native {compiled.instruction_set()}"
else:
    from latq.kernels.matrices import subtract_product
    from latq.kernels.paths import choose_paths, decode_paths, encode_paths, path_costs
    from latq.kernels.points import choose_points, decode_points, encode_points, point_costs
    from latq.kernels.products import add_products, narrowed, put_products, squared_norms, summed_energies
    from latq.kernels.reference import (
        count_symbols,
        fwht,
        join_digits,
        pack_bits,
        rans_decode_symbols,
        rans_encode_symbols,
        rotate,
        scaled_codewords,
        split_digits,
        tree_sum,
        unpack_bits,
        unpack_digits,
        unrotate,
    )
    from latq.kernels.search import cheapest_scales, choose_scales, estimated_errors, guess_scales, quantize
    from latq.kernels.vectors import (
        copy_transposed,
        divided,
        new_array,
        peak,
        restored,
        row_moments,
        row_squares,
        row_sums,
        widened,
    )

    IMPLEMENTATION = "reference"
