"""How much a real language model loses, in nats per token, when latq or a peer quantizes it.

Run it as `python tests/benchmarks/perplexity MODEL TEXT --calibration OTHER_TEXT --sentences BERT`; without BERT there
is the language model only.

MODEL is the folder of a small Llama (config.json with n_layers, n_heads, n_kv_heads, rope_theta, eps and bos;
model.safetensors; tokenizer.json), BERT that of all-MiniLM-L6-v2 (model.safetensors, tokenizer.json, sentences.txt).
All matrices of the blocks are quantized (W), also keys and values by head and token (KV), also the inputs of all linear
layers by token (A). The embedding, which is the head as well, stays. Needs `pip install '.[perplexity]'`.

Columns: bits asked for; bits per entry of W, KV and A, scales included; nats per token; gap to float32, by token, and
its standard error over windows of 512 tokens; of sentence embeddings their relative error, the rank correlation of all
cosines, and the share of nearest neighbours that stay. A star: 4 bits on a
free grid by 32 weights, next to lossless where weights come from such a grid, as those of a GGUF file in Q4_1; there
it is not comparable.
"""

import csv
from fnmatch import fnmatch
from pathlib import Path

import click
import torch
from peers import METHODS
from trials import LanguageTrial, SentenceTrial

SETTINGS = ("W", "W+KV", "W+KV+A")
RATES, GAPS, LIKENESS = ("W", "KV", "A"), ("nats", "gap", "error"), ("relative_error", "spearman", "nearest")
NUMBERS = (*RATES, *GAPS, *LIKENESS)
COLUMNS = ("setting", "method", "asked", *NUMBERS)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE, OUTPUT = (click.Path(exists=exists, dir_okay=False, path_type=Path) for exists in (True, False))
HEADINGS = {"error": "+-", "relative_error": "embed err"}


def line(row):
    numbers = (f"{row[column]:9.4f}" if column in row else " " * 9 for column in NUMBERS)
    return " ".join([f"{row['setting']:9s} {row['method']:20s} {row['asked']}", *numbers]).rstrip()


@click.command(help=__doc__)
@click.argument("model", type=FOLDER)
@click.argument("text", type=FILE)
@click.option("--calibration", metavar="TEXT", required=True, type=FILE)
@click.option("--moments", type=OUTPUT, help="[default: MODEL/moments.h5]")
@click.option("--sentences", type=FOLDER, help="Folder of the BERT.")
@click.option("--only", multiple=True, default=["*"], metavar="GLOB", help="Methods.")
@click.option("--bits", default="4,3,2", show_default=True)
@click.option("--setting", "settings", multiple=True, type=click.Choice(SETTINGS), default=SETTINGS)
@click.option("--tokens", default=8192, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--csv", "table", type=OUTPUT)
def main(model, text, calibration, moments, sentences, only, bits, settings, tokens, threads, table):
    torch.set_num_threads(threads)
    language = LanguageTrial(model, text, tokens, calibration, moments or model / "moments.h5")
    trials = [lambda method, width: language.rows(method, width, settings)]
    if sentences:
        trials.append(SentenceTrial(sentences, calibration).rows)
    click.echo(f"{language.exact.numel()} tokens, {language.exact.double().mean():.4f} nats each in float32")
    click.echo(" ".join([f"{'setting':9s} {'method':18s} bits", *(f"{HEADINGS.get(c, c):>9s}" for c in NUMBERS)]))
    rows = []
    for width in map(int, bits.split(",")):
        for method in METHODS:
            if width in method.widths and any(fnmatch(method.name, glob) for glob in only):
                name = method.name + " *" * (width in method.spared)
                for row in (row for trial in trials for row in trial(method, width)):
                    rows.append({**row, "method": name, "asked": width})
                    click.echo(line(rows[-1]))
    if table:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
