"""Quantized weights on disk, so that another run need not make them again."""

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def kept(folder, name, make):
    """What ``make()`` returns, matrices by name and their bits per entry, or has returned under this name before.

    Without a folder nothing is kept.
    """
    if not folder:
        return make()
    path = folder / f"{name}.safetensors"
    if not path.exists():
        matrices, rate = make()
        contiguous = {key: w.contiguous() for key, w in matrices.items()}
        folder.mkdir(parents=True, exist_ok=True)
        save_file(contiguous, path.with_suffix(".part"), metadata={"bits": repr(rate)})
        path.with_suffix(".part").rename(path)
    with safe_open(path, "pt") as file:
        return load_file(path), float(file.metadata()["bits"])
