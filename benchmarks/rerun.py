"""Runs of ETTh1 repeated from their bundle alone, in another directory and another clone: are the weights the same?

    python benchmarks/rerun.py [--models ridge nlinear nlinear_random xgboost nhits] [--short]

Whole processes. The first run works on this checkout, the second on a fresh clone of its last commit.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
# NLinear starts from ridge, and on ETTh1 no epoch is better: from random weights, too, it is a training.
MODELS = {"ridge": (), "nlinear": (), "nlinear_random": ("model.warm_start=null",), "xgboost": ("model.rounds=20",)}
MODELS |= {"nhits": ("trainer.max_epochs=3",)}
SHORT = ("lookback=48", "horizon=24", "trainer.max_epochs=1", "trainer.limit_train_batches=10", "evaluation.stride=24")
HERE = ("tracking=none", "report=none")


def run(folder: Path, source: Path, *words: str) -> tuple[str, float]:
    """What a command prints, and the seconds it took."""
    folder.mkdir(exist_ok=True)
    data = os.environ.get("TSFORECAST_DATA_DIR", str(ROOT / "data"))
    own = {"PYTHONPATH": str(source / "src"), "TSFORECAST_DATA_DIR": data}
    began = time.perf_counter()
    command = [sys.executable, "-m", "tsforecast", *words, *HERE]
    done = subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr, time.perf_counter() - began


def digest(bundle: Path) -> str:
    """Of the bytes of all files that a fit gives."""
    files = [each for each in sorted(bundle.iterdir()) if each.suffix in (".npz", ".safetensors", ".onnx")]
    return hashlib.sha256(b"".join(each.read_bytes() for each in [bundle / "bundle.json", *files])).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    same = True
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place, "clone")
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        print("| model | weights of the first run | of its rerun in another clone | train | rerun |")
        print("|---|---|---|---|---|")
        for model in given.models:
            first, second = Path(place, model), Path(place, f"{model}-elsewhere")
            words = ("+experiment=etth1", f"model={model.partition('_')[0]}", *MODELS[model])
            words += SHORT if given.short else ()
            _, trained = run(first, ROOT, "train", *words, "hydra.run.dir=a")
            second.mkdir()
            shutil.copytree(first / "a" / "bundle", second / "alone")
            shutil.rmtree(first)
            said, repeated = run(second, clone, "rerun", "alone", "hydra.run.dir=b")
            before, after = digest(second / "alone"), digest(second / "b" / "bundle")
            same &= before == after and "Weights  the same, bit for bit" in said
            print(f"| {model} | {before[:16]} | {after[:16]} | {trained:.1f} s | {repeated:.1f} s |", flush=True)
            origin = json.loads((second / "b" / "provenance.json").read_text())
            assert origin["parents"] == {"rerun": "alone"}
    print("the same digests" if same else "DIFFERENT digests")
    sys.exit(not same)


if __name__ == "__main__":
    main()
