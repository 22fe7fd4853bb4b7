"""What share of the truth an 80 % interval covers, over short series: 48 months, 6 ahead, a lookback of 12.

    python benchmarks/coverage.py [--series 200] [--parquet FILE]

Each series is simulated (trend, season, moving average), fitted on its 48 rows and judged on the 6 behind them, which
nothing has seen: as `train` leaves the bundle, and fitted once more on all rows (`refit=all`). With --parquet the
series are the last 54 months of each in a long file (unique_id, ds, y), such as those of the M3 competition.
"""

import argparse
import logging
import warnings

import numpy as np
import pandas as pd

from tsforecast.data.schema import Schema
from tsforecast.data.sources import FrameSource
from tsforecast.data.splits import FractionSplit
from tsforecast.experiment import Experiment, run_experiment
from tsforecast.models.linear import Ridge
from tsforecast.training.calibrate import Conformal

ROWS, HORIZON, LOOKBACK = 48, 6, 12


def simulated(seed: int) -> np.ndarray:
    """The months of one series, those to forecast included."""
    rng, t = np.random.default_rng(seed), np.arange(ROWS + HORIZON)
    noise = np.convolve(rng.normal(scale=5, size=len(t) + 2), (0.5, 0.3, 0.2), "valid")
    return np.asarray(100 + 0.5 * t + 10 * np.sin(2 * np.pi * t / 12 + rng.uniform(0, 2 * np.pi)) + noise)


def real(file: str, series: int) -> list[np.ndarray]:
    """The last months of each series that has as many."""
    groups = pd.read_parquet(file).sort_values("ds").groupby("unique_id")["y"]
    found = [values.to_numpy(dtype=np.float64)[-ROWS - HORIZON :] for _, values in groups]
    return [values for values in found if len(values) == ROWS + HORIZON][:series]


def covered(values: np.ndarray, refit: str) -> np.ndarray:
    """Which of the months ahead lie inside the 80 % interval."""
    time = pd.date_range("2020-01-01", periods=ROWS, freq="MS")
    source = FrameSource(
        pd.DataFrame({"date": time, "y": values[:ROWS]}), Schema(time="date", target=("y",), freq="MS")
    )
    experiment = Experiment(
        source=source,
        split=FractionSplit(),
        model=Ridge(),
        trainer=None,
        lookback=LOOKBACK,
        horizon=HORIZON,
        calibration=Conformal(),
        quantiles=(0.05, 0.1, 0.5, 0.9, 0.95),  # the default ones
        refit=refit,
    )
    quantiles = run_experiment(experiment).forecast().quantiles
    assert quantiles is not None
    return np.asarray((quantiles[0, :, 0, 1] <= values[ROWS:]) & (values[ROWS:] <= quantiles[0, :, 0, 3]))


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--parquet", help="real monthly series in place of simulated ones")
    given = parser.parse_args()
    months = real(given.parquet, given.series) if given.parquet else [*map(simulated, range(given.series))]
    warnings.simplefilter("ignore")  # of pandas, which is to name frequencies otherwise
    logging.disable(logging.WARNING)  # what is ahead goes on with the trend, beyond the range of training
    print(f"| the 80 % interval over {len(months)} series | covers | by step ahead |\n|---|---|---|")
    for refit in ("none", "all"):
        inside = np.array([covered(values, refit) for values in months])
        by_step = ", ".join(f"{100 * share:.0f}" for share in inside.mean(axis=0))
        print(f"| refit={refit} | {100 * inside.mean():.1f} % | {by_step} |")


if __name__ == "__main__":
    main()
