"""Whether a server sees drift, and only drift: the test parts of ETTh1, Beijing and the panel, asked row by row.

What they are held against is of the rows before them, as if the data had ended there: a bundle knows all rows it saw.

    python benchmarks/drift.py [--weeks 40] [--only etth1]

Quiet weeks are as they are: a monitor of its own looks on at each, actuals are posted as they come, and the worst that
it says within the week counts. Then one channel is shifted by a standard deviation of training, up and down: in all
rows, of a server that has seen nothing before (`fresh`); in the rows from a moment on (`from now on`); in all rows from
a moment on, those that were sent before too (`rewritten`). It has 200 requests to say `act` of that channel.
Of ETTh1 and Beijing each request is an hour later; of the panel it is the next of 25 series, and then a day later.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from tsforecast.bundle import reference
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.panel import Panel
from tsforecast.serving.drift import VERDICTS, Monitor
from tsforecast.training.prepare import Prepared, trained_on

HERE = Path(__file__).resolve().parents[1]
OWN = f"dataset.path={HERE}/data"
KINDS = {
    "etth1": ["+experiment=etth1", "model=ridge"],
    "beijing": [f"{OWN}/beijing_pm25.csv"],
    "panel": ["+experiment=panel", f"{OWN}/panel.parquet"],
}
LIMIT, LOOK, BEFORE, TURN = 200, 10, 25, 25  # requests after a shift, between looks, before it; series in turn


def trained(name: str, folder: Path) -> tuple[Bundle, Prepared]:
    """A bundle that has not seen the test rows, and the rows that it was trained and judged on."""
    command = [sys.executable, "-m", "tsforecast.train", *KINDS[name], "tracking=none", "report=none"]
    subprocess.run([*command, f"hydra.run.dir={folder}/{name}"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    bundle = Bundle.load(folder / name / "bundle")
    config = bundle.provenance["config"]["dataset"]
    place = {"path": config["path"].replace("${paths.data_dir}", os.environ.get("TSFORECAST_DATA_DIR", f"{HERE}/data"))}
    found = [trained_on(bundle, "dataset", place, ""), trained_on(bundle, "split", {}, "")]
    data = Prepared.of(bundle, found[0].load(), found[1])
    before = reference.of_columns(bundle, data.panel.rows(data.borders.begin, data.borders.val_end))
    return replace(bundle, reference={**bundle.reference, **before}), data


def asked(bundle: Bundle, data: Prepared, start: int, count: int) -> Iterator[Panel]:
    """History and actual rows ahead, of so many requests from a place in the test part on."""
    series, (begin, end), many = len(data.panel), data.borders.rows("test"), len(data.panel) > 1
    for n in range(count):
        i = (start * TURN + n % TURN) % series if many else 0
        row = int(begin[i] - data.panel.offsets[i]) + (n // TURN if many else start + n)
        if row + bundle.dims.horizon <= end[i] - data.panel.offsets[i]:
            one = data.panel.select(np.arange(series) == i) if many else data.panel
            yield one.rows(np.array([row - bundle.context]), np.array([row + bundle.dims.horizon]))


def ask(bundle: Bundle, monitor: Monitor, panel: Panel, forecast: bool) -> float:
    """Seconds of the processor that the monitor took to look on at one request, whose rows ahead hold no targets."""
    ahead = np.arange(len(panel.time)) >= bundle.context
    hidden = {name: np.where(ahead[:, None], np.nan, getattr(panel, name)) for name in ("target", "past")}
    panel = replace(panel, **hidden)
    request = Request(panel, bundle.features.series(panel.ids), bundle.dims.horizon)
    shape = (1, bundle.dims.horizon, len(bundle.channels))
    found = bundle.infer(panel, request.series) if forecast else Prediction(np.zeros(shape, np.float32))
    began = time.thread_time()
    monitor.seen(request, found)
    return time.thread_time() - began


def quiet(bundle: Bundle, data: Prepared, starts: list[int], week: int) -> None:
    """Print what is said of quiet weeks, and of which columns."""
    worst, blamed, took = Counter[str](), Counter[str](), list[float]()
    for start in starts:
        monitor, said, columns = Monitor(bundle), 0, set[str]()
        for n, panel in enumerate(asked(bundle, data, start, week), 1):
            if n > 1:
                cut = bundle.context
                monitor.kept.match(panel.rows(np.array([cut - 1]), np.array([cut])))  # what has come true since
            took.append(ask(bundle, monitor, panel, True))
            if n % LOOK == 0:
                report = monitor.report()
                said = max(said, VERDICTS.index(report["verdict"]))
                columns |= {f"{each['column'] or each['what']} {each['verdict']}" for each in report["reasons"]}
        worst[VERDICTS[said]] += 1
        blamed.update(columns)
    told = ", ".join(f"{worst[verdict]} {verdict}" for verdict in VERDICTS)
    print(f"{len(starts)} quiet weeks: {told}; {dict(blamed.most_common(8))}")
    spread = f"median {1e3 * median(took):.3f} ms a request, p99 {1e3 * np.quantile(took, 0.99):.3f} ms"
    print(f"looking on, processor time: {spread}")


def shifted(bundle: Bundle, data: Prepared, starts: list[int], channel: int, by: np.ndarray, how: str) -> list[int]:
    """After how many requests `act` was said of a channel, of each start at which it was."""
    found = []
    for start in starts:
        monitor, before = Monitor(bundle), 0 if how == "fresh" else BEFORE
        for n, panel in enumerate(asked(bundle, data, start, before + LIMIT), 1 - before):
            old = (
                len(panel.time)
                - bundle.dims.horizon
                - (max(n, 0) if len(data.panel) == 1 else max(n - 1, 0) // TURN + 1)
            )
            rows = np.arange(len(panel.time)) >= (old if how == "from now on" else 0)
            ask(bundle, monitor, replace(panel, target=panel.target + by * (rows & (n > 0))[:, None]), False)
            if n > 0 and n % LOOK == 0:
                reasons = monitor.report()["reasons"]
                if ("act", bundle.channels[channel]) in {(each["verdict"], each["column"]) for each in reasons}:
                    found.append(n)
                    break
    return found


def main() -> None:
    """Train, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=40)
    parser.add_argument("--only", choices=KINDS)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in [given.only] if given.only else KINDS:
        with tempfile.TemporaryDirectory() as folder:
            bundle, data = trained(name, Path(folder))
            size = (Path(folder) / name / "bundle" / "reference.npz").stat().st_size
        begin, end = data.borders.rows("test")
        many, room = len(data.panel) > 1, int((end - begin).min()) - bundle.dims.horizon - LIMIT - BEFORE
        last = len(data.panel) // TURN - 1 if many else room
        starts = sorted({*np.linspace(0, last, given.weeks).astype(int).tolist()})
        print(f"{name}: {size / 1e3:.1f} kB of reference, windows of {bundle.reference['rows']} rows")
        quiet(bundle, data, starts, 7 * TURN if many else 168)
        deviation = np.nanstd(data.rows("train").target, axis=0)
        print("| shifted | fresh | from now on | rewritten |\n|---|---|---|---|")
        for c, channel in enumerate(bundle.channels):
            for sign in (1, -1):
                by, cells = np.where(np.arange(len(deviation)) == c, sign * deviation, 0).astype(np.float32), []
                for how in ("fresh", "from now on", "rewritten"):
                    found = shifted(bundle, data, starts[:: max(1, len(starts) // 10)], c, by, how)
                    of = len(starts[:: max(1, len(starts) // 10)])
                    cells.append(f"{len(found)} of {of}" + (f", after {median(found):.0f}" if found else ""))
                print(f"| {channel} {sign:+d} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
