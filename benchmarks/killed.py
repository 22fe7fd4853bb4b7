"""kill -9 at random moments of a training, then `resume=` until it ends: are the weights those of an unbroken run?

    python benchmarks/killed.py [--rounds 20] [--model nlinear] [--seed 1]

A moment is drawn evenly between the record of what was asked for, without which there is nothing to resume, and the end
of the unbroken run; in seconds of CPU, since the neighbours decide how long these take. In every third round what goes
on is killed too. ETTh1 lies in TSFORECAST_DATA_DIR.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tsforecast.bundle.directory import weights_digest

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
EXPERIMENT = ("+experiment=etth1", "tracking=none", "report=none", "trainer.enable_progress_bar=false")
EPOCHS = "trainer/logger=csv"  # so that they can be counted
SIZES = {  # a few seconds of training
    "nlinear": ("model.patience=9", "trainer.max_epochs=5", "trainer.limit_train_batches=100", "lookback=96", EPOCHS),
    "nhits": ("model.patience=9", "trainer.max_epochs=4", "trainer.limit_train_batches=30", "lookback=96", EPOCHS),
    "ridge": (),
    "xgboost": ("model.rounds=20", "lookback=96", "horizon=24"),
}


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """The command, at work; what it says goes to a file."""
    command = [sys.executable, "-m", "tsforecast.train", *arguments]
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=folder, env={**os.environ, **ONE_THREAD}, stdout=said, stderr=said)


def cpu(process: subprocess.Popen[bytes]) -> float:
    """Seconds that it has computed."""
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def recorded(process: subprocess.Popen[bytes], run: Path) -> float:
    """Wait until what a run is asked for is recorded; `cpu` then."""
    while not (run / ".unfinished").exists():
        if process.poll() is not None:
            raise SystemExit(f"a run did not begin:\n{(run.parent / 'said.txt').read_text()[-2000:]}")
        time.sleep(0.005)
    return cpu(process)


def end(process: subprocess.Popen[bytes], run: Path) -> float:
    """Wait for a run that is to end well; the seconds of CPU when it had.

    Raises
    ------
    SystemExit
        It does not.
    """
    last = 0.0
    while process.poll() is None:
        last = cpu(process) if (run / ".unfinished").exists() else last
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"a run that was to end failed:\n{(run.parent / 'said.txt').read_text()[-2000:]}")
    return last


def kill(process: subprocess.Popen[bytes], run: Path, seconds: float) -> str:
    """Kill it once it has computed for so many seconds; how far the run had come, '' where it had ended."""
    while (run / ".unfinished").exists() and cpu(process) < seconds:
        time.sleep(0.005)
    process.kill()
    process.wait()
    if not (run / ".unfinished").exists():
        return ""
    if (run / "bundle").exists():
        return "with a bundle"
    if (history := run / "csv" / "metrics.csv").exists():
        return f"after {len(history.read_text().splitlines()) - 1} epochs"
    return "in the fit" if "train, " in (run / "train.log").read_text() else "before the fit"


def main() -> None:
    """Print a line a round, and how many had the weights of the unbroken run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="nlinear", choices=[*SIZES])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # moments, no secrets
    asked = (*EXPERIMENT, f"model={options.model}", *SIZES[options.model])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if data := os.environ.get("TSFORECAST_DATA_DIR"):
            (folder / "data").symlink_to(Path(data).absolute())
        whole = start(folder, *asked, "hydra.run.dir=whole")
        first = recorded(whole, folder / "whole")
        last, wanted = end(whole, folder / "whole"), weights_digest(folder / "whole" / "bundle")
        print(f"{options.model}: recorded after {first:.1f} s of {last:.1f}, weights {wanted[:12]}", flush=True)
        equal = 0
        for number in range(options.rounds):
            run, kills = folder / f"run{number}", list[str]()
            process = start(folder, *asked, f"hydra.run.dir={run.name}")
            recorded(process, run)
            for _ in range(2 if number % 3 == 0 else 1):
                if not (found := kill(process, run, moment := draw.uniform(first, last))):
                    break
                kills.append(f"at {moment:.1f} s {found}")
                process = start(folder, f"resume={run.name}")
            if (run / ".unfinished").exists():
                end(process, run)
            equal += (digest := weights_digest(run / "bundle")) == wanted
            print(f"{number + 1:>3} killed {', '.join(kills) or 'as it had ended'}: weights {digest[:12]}", flush=True)
    print(f"{equal} of {options.rounds} killed runs of {options.model} ended with the weights of the unbroken one")


if __name__ == "__main__":
    main()
