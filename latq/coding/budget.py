"""How trials of a rate compare."""

# More than any trial can stay below its budget, in bits per entry.
MAX_EXCESS = 1000.0


def rank(excess: float) -> float:
    """How good it is to exceed a rate by so many bits per entry: below it the most is best, above it the least."""
    return excess if excess <= 0 else -excess - MAX_EXCESS
