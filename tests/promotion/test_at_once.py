"""Processes that promote at the same moment, and some that are killed with -9: benchmarks/promotions.py in small."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "promotions.py"


def test_there_is_always_one_champion_and_each_record_is_whole(tmp_path: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--rounds", "2", "--kills", "2"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "two at once: 2 rounds, 3 promoted, 1 too late" in done.stdout
    killed = re.search(r"kill -9: 2 times, .*; (.*)", done.stdout)
    assert killed
    assert sum(map(int, re.findall(r": (\d)", killed[1]))) == 2
