"""Second moments X^T X / tokens of the inputs of linear layers: all that a calibrated quantizer knows of them."""

import h5py
import torch


class Moments:
    """Collects them as a model's ``inputs``, by the names of the matrices that share an input."""

    def __init__(self):
        self.sums, self.tokens = {}, {}

    def __call__(self, names, x):
        rows = x.flatten(0, -2)
        self.sums[names] = self.sums.get(names, 0) + (rows.T @ rows).double()
        self.tokens[names] = self.tokens.get(names, 0) + len(rows)
        return x


def by_matrix(moments):
    """Tensors (n, n), float64, by the name of the matrix."""
    return {name: total / moments.tokens[names] for names, total in moments.sums.items() for name in names}


def save(moments, path):
    """As datasets by the name of the matrix; links where the input is the same."""
    with h5py.File(path, "w") as file:
        for names, total in moments.sums.items():
            first, *others = names
            file[first] = (total / moments.tokens[names]).numpy()
            file[first].attrs["count"] = moments.tokens[names]
            for name in others:
                file[name] = file[first]


def load(path):
    """What :func:`save` has written, as :func:`by_matrix`."""
    with h5py.File(path) as file:
        return {name: torch.from_numpy(file[name][()]) for name in _names(file)}


def _names(file):
    names = []
    file.visit_links(names.append)
    return [name for name in names if isinstance(file[name], h5py.Dataset)]
