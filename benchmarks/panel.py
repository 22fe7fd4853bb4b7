"""10,000 series x 500 rows from Parquet: `model=ridge`, lookback 96, horizon 24, the whole process, one thread.

Once on the values alone (`feature=[]`), once with the calendar, which is the default:

python benchmarks/panel.py [--series 10000] [--rows 500] [--rounds 3]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

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
        plain = ["dataset=long", "dataset.path=panel.parquet", "model=ridge", "lookback=96", "horizon=24"]
        rows = []
        for name, feature in (("values alone", "feature=[]"), ("with the calendar", "feature=[calendar]")):
            command = train(*plain, feature, "tracking=none", "report=none")
            costs = [measure(command, cwd) for _ in range(arguments.rounds)]
            found = scores(cwd)
            note = f"MSE {found['test/mse']:.4f}, seasonal naive {found['baseline/seasonal_naive/test/mse']:.4f}"
            rows.append((f"{' x '.join(sizes)}, ridge, {name}", costs, note))
    print(table(rows))


if __name__ == "__main__":
    main()
