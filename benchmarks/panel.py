"""10,000 series x 500 rows from Parquet: `model=ridge`, lookback 96, horizon 24, the whole process, one thread.

Once on the values alone (`feature=[]`), once with the calendar, which is the default. Then NLinear from random weights,
200 steps of 1,024 windows and one forecast of every series' end, beside NeuralForecast's own (panel_neuralforecast.py):

python benchmarks/panel.py [--series 10000] [--rows 500] [--rounds 3]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from wholeprocess import measure, scores, table, train

# Written by a process of its own: a child's peak memory is at least that of the process which forked it.
WRITE = """
import sys
import numpy as np, pandas as pd
path, n, t = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
hour = np.arange(t)
level = rng.normal(50, 10, (n, 1))
daily = rng.gamma(2.0, 4.0, (n, 1)) * np.sin(2 * np.pi * (hour + rng.integers(0, 24, (n, 1))) / 24)
drift = np.cumsum(rng.normal(0, 0.2, (n, t)), axis=1)
y = (level + daily + drift + rng.normal(0, 2, (n, t))).astype(np.float32)
ids = np.char.add("s", np.char.zfill(np.arange(n).astype(str), 6))
frame = pd.DataFrame({
    "unique_id": np.repeat(ids, t),
    "ds": np.tile(pd.date_range("2024-01-01", periods=t, freq="h"), n),
    "y": y.reshape(-1),
})
frame.to_parquet(path)
"""


POINTS = ("calibration=none", "quantiles=[]")
NLINEAR = (
    "model=nlinear", "feature=[]", "model.warm_start=null", "model.batch_size=1024", "+model.val_batch_size=4096",
    "model.optimizer.lr=0.001", "+trainer.max_steps=200", "trainer.num_sanity_val_steps=0", "split=tail",
    "split.val=24", "split.test=24", "calibration=none", "quantiles=[]",
)  # fmt: skip


def main() -> None:
    """Write the panel, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cwd = Path(scratch)
        sizes = [str(arguments.series), str(arguments.rows)]
        subprocess.run([sys.executable, "-c", WRITE, str(cwd / "panel.parquet"), *sizes], check=True)
        plain = ["dataset=long", "dataset.path=panel.parquet", "lookback=96", "horizon=24"]
        rows = []
        for name, feature in (("values alone", "feature=[]"), ("with the calendar", "feature=[calendar]")):
            command = train(*plain, "model=ridge", feature, *POINTS, "tracking=none", "report=none")
            costs = [measure(command, cwd) for _ in range(arguments.rounds)]
            found = scores(cwd)
            note = f"MSE {found['test/mse']:.4f}, seasonal naive {found['baseline/seasonal_naive/test/mse']:.4f}"
            rows.append((f"{' x '.join(sizes)}, ridge, {name}", costs, note))
        ours = train(*plain, *NLINEAR, "tracking=none", "report=none")
        theirs = [sys.executable, str(Path(__file__).with_name("panel_neuralforecast.py")), "panel.parquet"]
        pairs = [(measure(ours, cwd), measure(theirs, cwd)) for _ in range(arguments.rounds)]
        error = json.loads((cwd / "stdout.txt").read_text().splitlines()[-1])["mae_raw"]
        rows.append(
            (
                f"{' x '.join(sizes)}, NLinear, 200 steps",
                [a for a, _ in pairs],
                f"MAE {scores(cwd)['test/mae_raw']:.3f}",
            )
        )
        ratios = [median(getattr(a, key) / getattr(b, key) for a, b in pairs) for key in ("cpu_s", "rss_mib")]
        note = f"MAE {error:.3f}; ours {ratios[0]:.2f} x its CPU, {ratios[1]:.2f} x its memory"
        rows.append(("NeuralForecast, the same", [b for _, b in pairs], note))
    print(table(rows))


if __name__ == "__main__":
    main()
