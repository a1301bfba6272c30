"""What the format allows the parameters of its codecs to be (spec section 3).

Apart from the codecs, so that the description of a file can be checked without loading their mathematics.
"""

MAX_CLASSES = 32
"""Classes of vectors that share a scale."""

MAX_Q = 4096
"""Nesting ratio of an E8 codebook."""

MAX_SCALE, MAX_SCALES = 255, 16
"""Largest scale of such a codebook, and how many it may have."""

MIN_WEIGHTS, MAX_WEIGHTS = 5, 255
"""Weights of a density."""

INNER_LOW, INNER_HIGH = -2, 2
"""Values that the tables of every class cover."""

MAX_SHIFT = 16
"""Low bits of a coordinate that are stored as such."""

MIN_WIDTH, MAX_WIDTH = -128, 255
"""Width of a class, in eighths of an octave."""

MAX_LEVEL, MAX_LEVELS = 1 << 20, 4096
"""Largest magnitude of a scalar level as stored, and how many there may be."""

MAX_LEVEL_SHIFT, MAX_ALPHABET = 8, 255
"""Low bits of the index of a level that are stored as such, and how many high parts there may be."""

MAX_STEP = 255
"""Largest multiple of the step that a coordinate has."""

MAX_CHECK = (1 << 13) - 1
"""Largest parity check of a trellis: of 2^12 states."""

MAX_GROUP = 1 << 15
"""Entries that are rotated together."""

MAX_BLOCKS = MAX_GROUP // 8
"""Blocks of a vector."""
