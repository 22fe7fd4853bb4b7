"""Reading a long frame of 10,000 series x 500 rows: schema, order, gaps and duplicates are checked; one thread.

python benchmarks/frames.py [--series 10000] [--rounds 7]
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is imported)
import argparse
import os
import time
from statistics import median

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import pandas as pd

from tsforecast.data.frames import to_panel
from tsforecast.data.schema import Schema

ROWS = 500


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    ds = np.tile(pd.date_range("2020-01-01", periods=ROWS, freq="h").to_numpy(), arguments.series)
    ids = np.repeat([f"series {i}" for i in range(arguments.series)], ROWS)
    frame = pd.DataFrame({"unique_id": ids, "ds": ds, "y": np.random.default_rng(0).random(len(ds))})
    seconds = []
    for _ in range(arguments.rounds):
        began = time.process_time()
        to_panel(frame, Schema(id="unique_id", freq="h"))
        seconds.append(time.process_time() - began)
    print("| | median CPU s | range |\n|---|---|---|")
    sizes = f"a long frame of {arguments.series:,} x {ROWS}"
    print(f"| {sizes} | {median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
