"""Runs on disk: found by path or pattern, and read; why one is left out is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsforecast.errors import DataError, nearest
from tsforecast.training.record import FILE, Record

DEPTH = 2  # folders below one that is given: `outputs/`, `outputs/sweep-.../`
MARKS = ("bundle", "folds", "train.log", "backtest.log")  # by which a run of `train` or `backtest` is known


@dataclass(frozen=True)
class Run:
    """A finished run of `train` or `backtest`."""

    path: Path
    record: Record


def find(places: Sequence[str | Path]) -> tuple[list[Run], dict[str, str]]:
    """The finished runs in or below the given folders, and the folders that are left out, with the reason.

    Parameters
    ----------
    places
        Folders of runs, of sweeps or of several runs, or patterns such as `outputs/*`.

    Raises
    ------
    DataError
        A place does not exist or holds no run, or none of the runs has ended.
    """
    folders: dict[Path, str] = {}
    for place in map(Path, places):
        given = [place] if place.exists() else sorted(Path(place.anchor).glob(str(place.relative_to(place.anchor))))
        if not given:
            there = [each.name for each in place.parent.iterdir()] if place.parent.is_dir() else []
            near, fix = nearest(place.name, there), "give the directory of a run, of a sweep, or a pattern"
            fix = f"did you mean {place.parent / near}?" if near else fix
            raise DataError("there is no such run", where="runs", got=place, fix=fix)
        below = {folder: reason for each in given for folder, reason in _runs(each, DEPTH)}
        if not below:
            what, allowed = "this is no run", "what train or backtest has written, or a folder of such"
            raise DataError(what, where="runs", got=place, allowed=allowed)
        folders |= below
    left_out = {str(folder): reason for folder, reason in folders.items() if reason}
    runs = [Run(folder, Record.load(folder / FILE)) for folder, reason in folders.items() if not reason]
    if not runs:
        got = [f"{name}: {reason}" for name, reason in left_out.items()]
        raise DataError("none of these runs can be read", where="runs", got=got, fix="let one of them end")
    return runs, left_out


def _runs(folder: Path, depth: int) -> Iterator[tuple[Path, str]]:
    """The runs in a folder, each with why it cannot be read, if it cannot."""
    if (folder / FILE).is_file():
        yield folder, ""
    elif any((folder / mark).exists() for mark in MARKS):
        yield folder, "it has no test scores" if (folder / "metrics.json").exists() else "it has not ended, or failed"
    elif depth and folder.is_dir():
        inside = (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        for each in sorted(inside, key=lambda each: (len(each.name), each.name)):  # 2 before 10
            yield from _runs(each, depth - 1)
