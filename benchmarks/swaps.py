"""Two bundles of ETTh1 exchanged under load, on each adapter: is a request lost, or answered by half of each?

    python benchmarks/swaps.py [--swaps 50] [--connections 8]

What is served is a link, which is turned to the other bundle before every `POST /admin/reload`. An answer is of one
bundle when it has the bytes that this bundle alone gives. Beside it: p50 and p99 of as long a time without swaps.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path

from serving import HERE, PEERS, PYTHON, SERVERS, family, server

KEY = "key of the benchmark"
PAUSE = 0.2  # seconds between swaps


def bundles(folder: Path) -> list[Path]:
    """Two ridges of the same columns, on differently scaled rows."""
    for scaler in ("standard", "minmax"):
        command = [*PYTHON, "tsforecast.train", "+experiment=etth1", "model=ridge", f"scaler={scaler}"]
        command += ["tracking=none", "report=none", f"hydra.run.dir={folder}/{scaler}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return [folder / scaler / "bundle" for scaler in ("standard", "minmax")]


def post(port: int, path: str, body: bytes = b"") -> bytes:
    """The body of the answer; anything but 200 ends the benchmark."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json" if body else ""}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def turn(port: int, link: Path, bundle: Path) -> float:
    """Serve another bundle; the seconds it took."""
    fresh = link.with_name("next")
    fresh.symlink_to(bundle)
    fresh.replace(link)
    began = time.perf_counter()
    if not json.loads(post(port, "/admin/reload"))["swapped"]:
        raise SystemExit("nothing was swapped")
    took = time.perf_counter() - began
    time.sleep(PAUSE)
    return took


def rss(process: object) -> int:
    """MiB of the process and its children."""
    return sum(each.memory_info().rss for each in family(process)) // 2**20


def measure(adapter: str, folder: Path, pair: list[Path], swaps: int, connections: int) -> None:
    """One adapter: once without, once with swaps."""
    link, file = folder / "served", folder / "request.json"
    link.unlink(missing_ok=True)
    link.symlink_to(pair[0])
    golden = json.loads((pair[0] / "golden.json").read_text())["history"]
    file.write_text(json.dumps({"history": golden}))
    os.environ["TSFORECAST_ADMIN_KEY"] = KEY
    with server(SERVERS[adapter], folder, link) as (process, port, _):
        alone, took = dict[int, str](), list[float]()
        for bundle in reversed(pair):
            took.append(turn(port, link, bundle))
            alone[zlib.crc32(post(port, "/forecast", file.read_bytes()))] = bundle.parent.name
        seconds = max(2.0, swaps * (max(took) + PAUSE) * 2)
        command = [sys.executable, str(HERE / "load.py"), str(port), "/forecast", str(file), str(connections)]
        for count in (0, swaps):
            before = rss(process)
            load = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
            took = [turn(port, link, pair[1 - i % 2]) for i in range(count)]
            during = load.poll() is None
            found = json.loads(load.communicate()[0])
            answers = {int(crc): number for crc, number in found["answers"].items()}
            strange = sum(number for crc, number in answers.items() if crc not in alone)
            whole = {name: answers.get(crc, 0) for crc, name in alone.items()}
            slowest = f", {max(took):.2f} s the slowest" if took else ""
            print(f"{adapter}, {count} swaps{slowest}{'' if during else ', the last ones after the load'}:")
            print(f"  statuses {found['statuses']}, {whole}, answers of no bundle: {strange}")
            print(f"  {found['rate']} requests/s, p50 {found['p50']} ms, p99 {found['p99']} ms,", end=" ")
            print(f"memory {before} to {rss(process)} MiB")
            if strange or {*found["statuses"]} != {"200"}:
                raise SystemExit("a request was lost, refused, or answered by half of each")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--connections", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pair = bundles(Path(scratch))
        for adapter in PEERS:
            measure(adapter, Path(scratch), pair, arguments.swaps, arguments.connections)


if __name__ == "__main__":
    main()
