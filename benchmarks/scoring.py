"""Scoring all 2,785 test windows x 7 channels of ETTh1 at horizon 96: gather, forecast, invert, sum; one thread.

    python benchmarks/scoring.py [--rounds 7]

The function measured is the one that `train` and `evaluate` call. A bare gather of the same windows stands beside it.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is imported)
import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from tsforecast.data.sources import Dataset
from tsforecast.data.splits import RowSplit
from tsforecast.experiment import Experiment
from tsforecast.models.linear import Ridge
from tsforecast.training.evaluate import evaluate
from tsforecast.training.prepare import Prepared


def etth1() -> Prepared:
    """ETTh1 by the published protocol: what `+experiment=etth1` is made of."""
    file = Path(os.environ.get("TSFORECAST_DATA_DIR", "data"), "ETTh1.csv")
    dataset = Dataset(path=str(file), name="etth1", time="date", freq="h")
    split = RowSplit(train=8640, val=2880, test=2880)
    return Experiment(source=dataset, split=split, model=Ridge(), trainer=None, lookback=336, horizon=96).prepare()


def milliseconds(task: Callable[[], object], rounds: int) -> list[float]:
    """CPU times of `task`, after one run that does not count: on one thread, wall time without the neighbours."""
    task()
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        task()
        times.append(1000 * (time.process_time() - begin))
    return times


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    data = etth1()
    bundle = data.bundle(Ridge().fit(data.windows("train"), data.windows("val"), data.dims))
    test, scale = data.windows("test"), data.scale
    tasks: dict[str, Callable[[], object]] = {
        f"scoring {len(test)} windows x {data.dims.channels} channels": lambda: evaluate(
            bundle, data.panel, test, scale
        ),
        "of it: gather and forecast": lambda: [bundle.predict(test, index) for index in test.batches(128)],
        "of it: gather": lambda: [test.window(index) for index in test.batches(128)],
    }
    print("| | median ms | range |\n|---|---|---|")
    for name, task in tasks.items():
        times = milliseconds(task, rounds)
        print(f"| {name} | {median(times):.1f} | {min(times):.1f} to {max(times):.1f} |")


if __name__ == "__main__":
    main()
