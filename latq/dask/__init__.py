"""latq beyond one machine: tensors as lazy Dask arrays, products on a Dask cluster.

>>> import latq.dask
>>> latq.dask.open("words.latq")[:, :100].mean().compute()  # doctest: +SKIP
"""

from latq.errors import UnsupportedError

try:
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise UnsupportedError(f"this takes Dask ({error}): pip install 'latq[dask]'") from error

from latq.dask.arrays import open

__all__ = ["open"]
