"""Scoring all 2,785 test windows x 7 channels of ETTh1 at horizon 96: gather, forecast, invert, sum; one thread.

    python benchmarks/scoring.py [--rounds 7]

The function measured is the one that `train` and `evaluate` call. A bare gather of the same windows stands beside it.
"""

# ruff: noqa: E402 (BLAS reads its number of threads when numpy is imported)
import argparse
import os
import time
from collections.abc import Callable
from statistics import median

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

from tsforecast.bundle import Bundle
from tsforecast.data.sources import Dataset
from tsforecast.data.splits import Borders, RowSplit
from tsforecast.features.base import FeatureSet
from tsforecast.metrics import seasonal_scale
from tsforecast.models.linear import Ridge
from tsforecast.panel import Panel
from tsforecast.training.evaluate import PARTS, evaluate, segment
from tsforecast.types import Dims
from tsforecast.windows import Windows

LOOKBACK, HORIZON = 336, 96


def etth1() -> tuple[Dataset, Panel, Borders, FeatureSet, Dims, list[Windows]]:
    """ETTh1 by the published protocol: what `+experiment=etth1` is made of, with train, validation and test windows."""
    dataset = Dataset(path="etth1", name="etth1", layout="wide", time="date", freq="h")
    panel = dataset.load()
    borders = RowSplit(train=8640, val=2880, test=2880)(panel, LOOKBACK, HORIZON)
    features = FeatureSet().fit(panel.rows(borders.begin, borders.train_end))
    encoded = features.encode(panel)
    dims = encoded.dims(lookback=LOOKBACK, horizon=HORIZON, season=24)
    windows = [segment(encoded, borders, part, lookback=LOOKBACK, horizon=HORIZON) for part in PARTS]
    return dataset, panel, borders, features, dims, windows


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
    dataset, panel, borders, features, dims, (fitting, validation, test) = etth1()
    bundle = Bundle(
        features=features,
        forecaster=Ridge().fit(fitting, validation, dims),
        dims=dims,
        channels=panel.channels,
        past_names=(),
        known_names=(),
        static_names=(),
        freq=panel.freq,
        schema=dataset.schema,
    )
    scale = seasonal_scale(panel.target, panel.offsets, borders.begin, borders.train_end, dims.season)
    tasks: dict[str, Callable[[], object]] = {
        f"scoring {len(test)} windows x {dims.channels} channels": lambda: evaluate(bundle, panel, test, scale),
        "of it: gather and forecast": lambda: [bundle.predict(test, index) for index in test.batches(128)],
        "of it: gather": lambda: [test.window(index) for index in test.batches(128)],
    }
    print("| | median ms | range |\n|---|---|---|")
    for name, task in tasks.items():
        times = milliseconds(task, rounds)
        print(f"| {name} | {median(times):.1f} | {min(times):.1f} to {max(times):.1f} |")


if __name__ == "__main__":
    main()
