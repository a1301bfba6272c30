"""How much a real language model loses, in nats per token, when latq or a peer quantizes it.

Run it as `python tests/benchmarks/perplexity MODEL TEXT --calibration OTHER_TEXT --sentences BERT`; without BERT there
is the language model only.

MODEL is the folder of a small Llama (config.json with n_layers, n_heads, n_kv_heads, rope_theta, eps and bos;
model.safetensors; tokenizer.json), BERT that of all-MiniLM-L6-v2 (model.safetensors, tokenizer.json, sentences.txt).
All matrices of the blocks are quantized (W), also keys and values by head and token (KV), also the inputs of all linear
layers by token (A). The embedding, which is the head as well, stays. Needs `pip install '.[perplexity]'`.

Columns: bits asked for; bits per entry of W, KV and A, scales included; nats per token; gap to float32, by token, and
its standard error over windows of 512 tokens; of sentence embeddings their relative error, the rank correlation of all
cosines, and the share of nearest neighbours that stay.
"""

from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import click
import torch
from peers import METHODS
from table import NUMBERS, Table
from trials import LanguageTrial, SentenceTrial

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE, OUTPUT = (click.Path(exists=exists, dir_okay=False, path_type=Path) for exists in (True, False))
HEADINGS = {"error": "+-", "relative_error": "embed err"}


def line(row):
    numbers = (f"{row[column]:9.4f}" if column in row else " " * 9 for column in NUMBERS)
    return " ".join([f"{row['setting']:9s} {row['method']:24s} {row['asked']}", *numbers]).rstrip()


@click.command(help=__doc__)
@click.argument("model", type=FOLDER)
@click.argument("text", type=FILE)
@click.option("--calibration", metavar="TEXT", required=True, type=FILE)
@click.option("--moments", type=OUTPUT, help="[default: MODEL/moments.h5]")
@click.option("--sentences", type=FOLDER, help="Folder of the BERT.")
@click.option("--only", multiple=True, default=["*"], metavar="GLOB", help="Methods.")
@click.option("--bits", default="4,3,2", show_default=True)
@click.option("--setting", "settings", multiple=True, default=["*"], metavar="GLOB", help="W, W+KV, W+KV+A, sentences.")
@click.option("--tokens", default=8192, show_default=True)
@click.option("--shelf", type=click.Path(path_type=Path), help="Folder for quantized weights, for runs to come.")
@click.option("--threads", default=2, show_default=True)
@click.option("--csv", "path", type=OUTPUT, help="Rows as they come. Those that it holds are not measured again.")
def main(model, text, calibration, moments, sentences, only, bits, settings, tokens, shelf, threads, path):
    torch.set_num_threads(threads)
    trials = [LanguageTrial(model, text, tokens, calibration, moments or model / "moments.h5", shelf)]
    click.echo(trials[0].heading)
    if sentences:
        trials.append(SentenceTrial(sentences, calibration))
    click.echo(" ".join([f"{'setting':9s} {'method':22s} bits", *(f"{HEADINGS.get(c, c):>9s}" for c in NUMBERS)]))
    table = Table(path)
    for width in map(int, bits.split(",")):
        for method in METHODS:
            if width in method.widths and any(fnmatch(method.name, glob) for glob in only):
                for trial in trials:
                    for setting in trial.settings(method):
                        if any(fnmatch(setting, glob) for glob in settings):
                            key = (setting, method.name, width)
                            click.echo(line(table.row(key, partial(trial.numbers, method, width, setting))))


if __name__ == "__main__":
    main()
