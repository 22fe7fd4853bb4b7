"""Promotions at once and cut off: python benchmarks/promotions.py [--rounds 50] [--kills 20].

Two processes promote two versions at the same moment, and one is killed with -9 at a random moment. After each the
registry has one champion, never none; the records are whole; and those that were carried out follow one another: each
found the champion that the one before had left. A record of one that was killed is made true by the next. Each process
has a folder of its own for temporary files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tsforecast as tsf
from tsforecast.registry import Registry

DATA = os.environ.get("TSFORECAST_DATA_DIR", Path(__file__).parents[1] / "data")
ALIASES = ("first", "second", "third")
SMALL = ("model=ridge", "+experiment=etth1", "lookback=48", "horizon=24", "tracking=none", "report=none")


def publish(folder: Path) -> None:
    """A registry with three versions of ridge that are as good as equal."""
    bundle = tsf.train(*SMALL, f"paths.data_dir={DATA}").bundle
    forecaster: Any = bundle.forecaster
    for i, alias in enumerate(ALIASES):
        other = replace(bundle, forecaster=replace(forecaster, bias=forecaster.bias + np.float32(i * 1e-4)))
        other.save(folder / alias)
        Registry(f"sqlite:///{folder}/made.db").publish(folder / alias, to="mlflow", name="load", alias=alias)


def child(task: Callable[[], Any], log: Path) -> int:
    """A process that does it; what is imported here need not be imported there again."""
    if pid := os.fork():
        return pid
    status = 1
    tempfile.tempdir = tempfile.mkdtemp(dir=log.parent)
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = int(not task().done)
    except tsf.TsforecastError as error:
        sys.stderr.write(f"{error}\n")
    finally:
        os._exit(status)


def in_child(task: Callable[[], Any]) -> Any:
    """What a process of its own finds, so that this one, which is forked, has no connection to the database open."""
    read, write = os.pipe()
    if not os.fork():
        with os.fdopen(write, "w") as file:
            json.dump(task(), file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        found = json.load(file)
    os.wait()
    return found


def places(folder: Path) -> list[Path]:
    """Where the records are."""
    return [each for each in (folder / "decisions").iterdir() if not each.name.startswith(".")]


def records(folder: Path) -> list[dict[str, Any]]:
    """The decisions in the order in which they were made; each whole, in both of its files."""
    found = []
    for place in places(folder):
        found.append(json.loads((place / "decision.json").read_text()))
        assert found[-1]["candidate"]["reference"] in (place / "decision.md").read_text(), place
    return sorted(found, key=lambda record: record["at"])


def check(folder: Path, aliases: dict[str, int]) -> Counter[str]:
    """Hold the aliases against the records; what they say, counted."""
    champion, found = None, records(folder)
    for record in found:
        assert record["aliases"].get("champion") == champion, f"nobody has left {record['aliases']}, but {champion}"
        if record["state"] == "carried out":
            champion = record["candidate"]["version"]
    assert "decided" not in [record["state"] for record in found[:-1]], "the one before was not brought to an end"
    left = {champion, found[-1]["candidate"]["version"]} if found[-1]["state"] == "decided" else {champion}
    assert aliases["champion"] in left, (aliases, left)
    return Counter(record["state"] for record in found)


def main(rounds: int, kills: int) -> None:
    """Print what became of all of them."""
    folder = Path(tempfile.mkdtemp(prefix="promotions-"))
    publish(folder)
    uri, log = f"sqlite:///{folder}/mlflow.db", folder / "log"
    shutil.copy(folder / "made.db", folder / "mlflow.db")

    def promote(alias: str, uri: str = uri, out: str = "decisions") -> Callable[[], Any]:
        words = ("model=load", f"uri={uri}", f"out={folder}/{out}", f"paths.data_dir={DATA}", "stride=24")
        return lambda: tsf.promote(*words, f"from={alias}", "gate.latency=10000")

    def aliases() -> dict[str, int]:
        return dict(in_child(lambda: dict(Registry(uri).aliases("load"))))

    promote(ALIASES[0], f"sqlite:///{folder}/made.db", "other")()  # all that it imports, children have at once
    (folder / "decisions").mkdir()
    began, pid = time.perf_counter(), child(promote(ALIASES[0]), log)
    while not places(folder):
        time.sleep(0.001)
    before_record = time.perf_counter() - began
    os.waitpid(pid, 0)
    single = time.perf_counter() - began
    ended: Counter[str] = Counter()
    took, number = [], {alias: i for i, alias in enumerate(ALIASES, start=1)}
    for i in range(rounds):
        began, champion = time.perf_counter(), aliases()["champion"]
        rivals = [alias for alias in ALIASES if number[alias] != champion]
        rivals = rivals if i % 2 else [rivals[0]] * 2  # of the same version one promotion comes too late
        done = [os.waitpid(pid, 0)[1] == 0 for pid in [child(promote(alias), log) for alias in rivals]]
        ended.update("promoted" if each else "refused" for each in done)
        assert sum(done) == len(set(rivals)), (rivals, done, log.read_text()[-2000:])
        took.append(time.perf_counter() - began)
        now = aliases()
        assert now["champion"] != champion, (now, champion)
        check(folder, now)
    said = f"{rounds} rounds, {ended['promoted']} promoted, {ended['refused']} too late"
    print(f"two at once: {said}, always one champion, {np.median(took):.2f} s a round")
    reached: Counter[str] = Counter()
    for i in range(kills):
        before = aliases()
        rival = random.choice([alias for alias in ALIASES if number[alias] != before["champion"]])
        count, pid = len(records(folder)), child(promote(rival), log)
        if i % 2:  # where it matters: from the record on
            peek = (os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            while len(places(folder)) == count and os.waitid(*peek) is None:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 2 * (single - before_record)))  # with a champion it takes longer
        else:
            time.sleep(random.uniform(0, single))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        now, after = aliases(), records(folder)
        check(folder, now)
        assert len(after) - count in (0, 1)
        state = after[-1]["state"] if len(after) > count else "no record"
        assert state != "no record" or now == before, "an alias was moved without a record"
        reached[f"{state}, {'moved' if now['champion'] != before['champion'] else 'as before'}"] += 1
    print(f"kill -9: {kills} times, never none and never two; {dict(reached)}")
    os.waitpid(child(promote(rival), log), 0)
    states = check(folder, aliases())
    assert "decided" not in states, states
    print(f"all records: {dict(states)}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args()
    main(asked.rounds, asked.kills)
