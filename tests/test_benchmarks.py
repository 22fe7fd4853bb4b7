"""The benchmarks still run: each in its shortest form, for what it prints and not for how long it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["scoring.py", "--rounds", "1"], "scoring 2785 windows x 7 channels"),
        (["throughput.py", "--epochs", "2"], "channel-windows/s"),
        (["boosting.py", "--ours", "--trees", "2"], '"mse"'),
        (["serving.py", "--only", "many", "--rounds", "1", "--seconds", "0.1"], "1,000 series"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_benchmark_runs_to_its_end(tmp_path: Path, arguments: list[str], printed: str) -> None:
    script, *options = arguments
    done = subprocess.run([sys.executable, str(BENCHMARKS / script), *options], cwd=tmp_path, capture_output=True,
                          text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert printed in done.stdout
