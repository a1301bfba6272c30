"""Codec trellis beside e8: processor time of whole files in memory, one thread, in turns."""

import time
from functools import partial

import numpy as np
from cases import energy, gaussian
from report import interleave, median_ratio, print_machine, print_table, write_csv

import latq
from latq.codecs.trellis import TRELLISES

COLUMNS = {
    "codec": "s", "bits": "g", "lost": ".3f", "encode M/s": ".1f", "encode / e8": ".2f", "decode M/s": ".1f",
    "decode / e8": ".2f",
}  # fmt: skip


def run(options):
    case = gaussian(options.shape)
    print_machine(case.name, f"{options.rounds} rounds", "processor time")
    x = np.ascontiguousarray(case.a.T)
    codecs = {"e8": {"coding": "entropy"}} | {f"trellis {e}": {"codec": "trellis", "effort": e} for e in TRELLISES}
    rows = []
    for bits in map(float, options.rates.split(",")):
        files = {name: latq.encode(x, bits, **settings) for name, settings in codecs.items()}
        tasks = {("encode", name): partial(latq.encode, x, bits, **settings) for name, settings in codecs.items()}
        tasks |= {("decode", name): partial(latq.decode, data) for name, data in files.items()}
        seconds = interleave(tasks, options.rounds, clock=time.process_time)
        for name, data in files.items():
            lost = 8 * len(data) / x.size + np.log2(energy(latq.decode(data) - x) / energy(x)) / 2
            row = [name, bits, lost]
            for verb in ("encode", "decode"):
                own = seconds[verb, name]
                row += [x.size / float(np.median(own)) / 1e6, median_ratio(seconds[verb, "e8"], own)]
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    print_table(COLUMNS, rows)
    write_csv(options.csv, rows)
