"""Speed of latq beside its peers, beside the memory of the machine, and as matrices grow.

usage: python tests/benchmarks/speed.py peers      encode and decode of every compressor, and how accurate it is
       python tests/benchmarks/speed.py trellis    encode and decode of codec trellis beside e8
       python tests/benchmarks/speed.py products   of two compressed files, against NumPy, blosc2 and ggml
       python tests/benchmarks/speed.py threads    latq with one thread and two, in memory and on the command line
       python tests/benchmarks/speed.py scaling    time per entry and peak memory of the command, 1 M to 4 G entries
       python tests/benchmarks/speed.py profile    where the time goes, against the bandwidth of the memory
       python tests/benchmarks/speed.py startup    of the command, and `latq info` of a small and a large file
All methods of one run are timed in turns, round by round; what is shown are medians over the rounds, also of ratios.
The peers come with `pip install '.[bench]'`, but for bitsandbytes, which wants PyTorch; one that is missing is skipped.
--csv keeps what was measured, --plot (of peers, scaling and profile) draws it; `speed.py peers -h` tells the options.
"""

import argparse
import importlib
import os


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="what", required=True)

    def verb(name, *, plot=False, rounds=9):
        added = verbs.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        added.add_argument("--csv", metavar="FILE")
        if plot:
            added.add_argument("--plot", metavar="FILE", help=".png, .svg or .pdf")
        if rounds:
            added.add_argument("--rounds", type=int, default=rounds)
        return added

    peers = verb("peers", plot=True)
    peers.add_argument("--only", default="", help="patterns of names, with commas between; all by default")
    peers.add_argument("--threads", type=int, default=1, help="of those that have any; else one")
    trellis = verb("trellis", rounds=7)
    trellis.add_argument("--rates", default="1,2,3,4,6,8,10", help="bits per entry, with commas between")
    products = verb("products", rounds=5)
    products.add_argument("--only", default="square,skinny,gram", help="products, with commas between")
    products.add_argument("--threads", type=int, default=1, help="of all methods")
    products.add_argument("--work", help="directory for the files, up to 2 GB; a temporary one by default")
    threads = verb("threads")
    threads.add_argument("--threads", type=int, default=2, help="that one is compared with")
    scaling = verb("scaling", plot=True, rounds=0)
    scaling.add_argument("--from", dest="least", default="1M", help="entries of the smallest matrix")
    scaling.add_argument("--to", dest="most", default="4G", help="entries of the largest, at steps of 4")
    scaling.add_argument("--rows", type=int, default=4096, help="of the matrix")
    scaling.add_argument("--work", help="directory for the files; a temporary one by default")
    profile = verb("profile", plot=True, rounds=5)
    startup = verb("startup", rounds=15)
    startup.add_argument("--big", type=float, default=0, metavar="GB", help="also a file of this size")
    for added, shape in ((peers, "4096x1024"), (trellis, "4096x1024"), (threads, "4096x4096"), (profile, "4096x4096")):
        added.add_argument("--shape", default=shape, help="of the Gaussian matrix; vectors are its columns")
    for added in (peers, products, threads, profile, scaling):
        added.add_argument("--bits", type=float, default=4.0)
    for added in (threads, profile, scaling):
        added.add_argument("--coding", choices=("entropy", "fixed"), default="entropy")
        added.add_argument("--axis", type=int, choices=(0, 1), default=0, help="vectors are columns (0) or rows (1)")
    return parser.parse_args()


def main():
    options = parse()
    # Libraries read these when they are loaded, which is why nothing above imports any.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"):
        os.environ[name] = str(options.threads if options.what in ("peers", "products") else 1)
    importlib.import_module(f"speed_{options.what}").run(options)


if __name__ == "__main__":
    main()
