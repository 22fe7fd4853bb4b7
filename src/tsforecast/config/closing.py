"""What a run ends with: what to type next; and a sweep: its runs compared."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tsforecast.config.compose import build
from tsforecast.config.job import SWEEP, limit_threads, show
from tsforecast.errors import TsforecastError

if TYPE_CHECKING:
    from tsforecast.bundle.bundle import Bundle
    from tsforecast.data.sources import Loaded
    from tsforecast.data.splits import Split

log = logging.getLogger("tsforecast")


@contextmanager
def swept(config: DictConfig, arguments: Sequence[str]) -> Iterator[None]:
    """Around a sweep of `train` or `backtest`: the tracked run of which its runs are part, then the leaderboard."""
    if config.hydra.job.config_name not in ("train", "backtest"):
        yield
        return
    limit_threads(config.threads)  # before numpy is imported
    folder = config.hydra.sweep.dir
    with build(config.tracking).run(Path(folder).name, {"arguments": shlex.join(arguments)}, out=Path(folder)) as run:
        run.follow()
        os.environ[SWEEP] = run.uid
        try:
            yield
        finally:
            del os.environ[SWEEP]
    from tsforecast.leaderboards.board import leaderboard

    try:
        board = leaderboard([folder])
    except TsforecastError as error:  # the runs have said themselves what became of them
        log.warning("no leaderboard of this sweep: %s", error)
        return
    place = shlex.quote(os.path.relpath(folder))
    show(f"{board.table()}\n\nAs a page\n  python -m tsforecast.leaderboard runs={place} out={place}")


def serving(bundle: str) -> str:
    """What serves a bundle, by its reference."""
    return f"TSFORECAST_BUNDLE={bundle} bentoml serve tsforecast.serving.service:Forecaster"


def promoting(version: str) -> str:
    """What makes a version champion, by its exact reference."""
    name, _, number = version.removeprefix("models:/").rpartition("/")
    return f"python -m tsforecast.promote {model(name)} from={number}"


def model(name: str) -> str:
    """The word of `promote` that names a model, as Hydra's grammar and the shell take it."""
    plain = re.fullmatch(r"[\w. -]+", name, re.ASCII)
    return f"model={shlex.quote(name)}" if plain else shlex.quote(f'model="{name}"')


def next_steps(
    bundle: Bundle, out: Path, loaded: Loaded, split: Split, *more: str | None, tag: str | None = None
) -> str:
    """What to type next, now that `out` holds a bundle; `tag` where it is published already."""
    place, file = shlex.quote(os.path.relpath(out / "bundle")), Path(loaded.address).is_file()
    near = min(os.path.relpath(loaded.address), loaded.address, key=len)
    data = shlex.quote(near) if file else "HISTORY.csv"  # a frame, or another store's
    given = " known_future=FUTURE.csv" * bool(bundle.schema.known)
    given += " short=drop" * (split.short == "drop")
    lines = [
        f"python -m tsforecast.predict bundle={place} input={data} output=forecast.csv{given}",
        f"python -m tsforecast.evaluate bundle={place} +dataset.path={data}" if file else None,
        None if tag else f"python -m tsforecast.publish {place}",
        promoting(tag) if tag and tag.startswith("models:/") else None,
        serving(shlex.quote(tag) if tag else place),
        *more,
    ]
    return "\n".join(["Next", *(f"  {line}" for line in lines if line)])
