"""Windows as the matrices that XGBoost reads, and what their columns are called."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from jaxtyping import Float

from tsforecast.errors import ConfigError
from tsforecast.models.base import check_labels
from tsforecast.models.design import by_row, design, step_names
from tsforecast.models.trees import TreeForecaster, seen
from tsforecast.types import Dims
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
_ENTRY = 4.4  # bytes of an entry in a file at most: 2.4 where no column has more than 256 bins or categories
_ROWS, _PAGE = 8192, 2**18  # windows of one channel gathered at a time, and rows of all their steps
_PLAIN = str.maketrans("[]<", "()‹")  # XGBoost refuses these in the name of a feature
Read = Mapping[str, Windows]  # windows by what they are called, those of training first
Page = Sequence[np.ndarray]  # rows, and then their labels and margins, as far as these are not set later


@dataclass(frozen=True)
class Store:
    """Where the rows of one fit are held: in memory, or beyond it in files of a `folder`."""

    max_bin: int
    folder: str | None = None

    @classmethod
    @contextmanager
    def of(cls, entries: int, memory: float, max_bin: int) -> Iterator[Store]:
        """In `memory`, GB of floats, if that holds the entries; else in a folder that goes, whatever ends the fit."""
        if 4e-9 * entries <= memory:
            yield cls(max_bin)
            return
        with tempfile.TemporaryDirectory(prefix="tsforecast-") as folder:
            needed, free = 1e-9 * entries * _ENTRY, 1e-9 * shutil.disk_usage(folder).free
            if needed > free:
                what, got = "the disk has no room for the rows", f"{free:.1f} GB free for {needed:.1f} GB"
                fix = "a smaller model.rows, or TMPDIR=FOLDER where there is room"
                raise ConfigError(what, where=f"model.rows, in {Path(folder).parent}", got=got, fix=fix)
            log.info("up to %.1f GB of rows lie in %s until the fit ends, by model.memory=%g", needed, folder, memory)
            try:
                yield cls(max_bin, folder)
            except BaseException as error:
                traceback.clear_frames(error.__traceback__)  # matrices remove files of theirs, and warn of those gone
                raise

    def matrix(
        self, name: str, pages: Callable[[], Iterator[Page]], about: Mapping[str, list[str]], ref: xgb.DMatrix | None
    ) -> xgb.DMatrix:
        """The rows of pages, which are read several times; with the bins of `ref`."""
        kind = xgb.ExtMemQuantileDMatrix if self.folder else xgb.QuantileDMatrix
        with _signals() as deliver:
            feed = _Feed(pages, about, self.folder and f"{self.folder}/{name}", deliver)
            try:
                return kind(feed, max_bin=self.max_bin, ref=ref, enable_categorical=True)
            finally:
                if feed.error:
                    raise feed.error


def direct(read: Read, dims: Dims, forecaster: TreeForecaster, store: Store) -> Iterator[list[xgb.DMatrix]]:
    """What each booster reads of each of `read`, all with the bins of the first: channel by channel, step by step."""
    for channel in range(dims.channels):
        parts = [Part.of(windows, channel, forecaster, name) for name, windows in read.items()]
        names = columns(next(iter(read.values())), dims, forecaster, channel)
        designs: list[xgb.DMatrix] = []
        for step in range(dims.horizon):
            if step == 0 or dims.known:  # else the boosters differ in their labels alone
                designs = []
                for name, part in zip(read, parts, strict=True):
                    designs.append(store.matrix(name, partial(part.pages, step), names, next(iter(designs), None)))
            for matrix, part in zip(designs, parts, strict=True):
                matrix.set_info(label=part.label[:, step])
                if part.margin is not None:
                    matrix.set_info(base_margin=forecaster.start(part.margin[:, step]))
            yield designs


def shared(
    read: Read, dims: Dims, forecaster: TreeForecaster, store: Store, *, most: int, seed: int
) -> Iterator[list[xgb.DMatrix]]:
    """What the one booster of all channels and steps reads: at most about `most` rows, drawn at random."""
    designs: list[xgb.DMatrix] = []
    about = columns(next(iter(read.values())), dims, forecaster)
    for name, windows in read.items():
        check_labels(len(windows), windows, name)
        pages = partial(_drawn, windows, dims, forecaster, most, seed)
        check_labels(any(len(rows) for rows, *_ in pages()), windows, name)
        if store.folder is None:
            held = [[np.concatenate(each) for each in zip(*pages(), strict=True)]]
            pages = partial(iter, held)
        designs.append(store.matrix(name, pages, about, next(iter(designs), None)))
    yield designs


def _drawn(windows: Windows, dims: Dims, forecaster: TreeForecaster, most: int, seed: int) -> Iterator[Page]:
    """Rows, labels and margins of windows at random where there are too many, else of steps of every window."""
    rng, c, h = np.random.default_rng(seed), dims.channels, dims.horizon
    if len(windows) * c > most:
        windows = windows.subset(np.sort(rng.choice(len(windows), max(1, most // c), replace=False)))
    kept = int(np.clip(most // (len(windows) * c), 1, h))
    for index in windows.batches(max(1, min(_ROWS, _PAGE // kept) // c)):
        window, label = windows.batch(index)
        steps = np.sort(np.argsort(rng.random((len(label), c, h)), axis=2)[..., :kept], axis=2)
        values = [each for each in (forecaster.label(window, label), forecaster.margin(window)) if each is not None]
        label, *start = (np.take_along_axis(each.swapaxes(1, 2), steps, axis=2).reshape(-1) for each in values)
        cells = [forecaster.shared_rows(window, steps), label, *map(forecaster.start, start)]
        yield [each[~np.isnan(label)] for each in cells]


@dataclass(frozen=True)
class Part:
    """The rows of a channel with a complete label; labels and margins are in the units of the trees."""

    windows: Windows  # of this channel alone: else time and memory would grow with the square of their number
    label: Float[np.ndarray, "R H"]
    margin: Float[np.ndarray, "R H"] | None
    kept: Sequence[np.ndarray]  # of each batch, the rows with a complete label

    @classmethod
    def of(cls, windows: Windows, channel: int, forecaster: TreeForecaster, name: str) -> Part:
        """One pass over the windows."""
        windows = replace(windows, encoded=replace(windows.encoded, target=windows.encoded.target[:, [channel]]))
        found, kept = [], []
        for index in windows.batches(_ROWS):
            window, label = windows.batch(index)
            cells = [by_row(forecaster.label(window, label))]
            cells += [by_row(margin)] if (margin := forecaster.margin(window)) is not None else []
            kept.append(~np.isnan(cells[0]).any(axis=1))
            found.append([each[kept[-1]] for each in cells])
        check_labels(sum(len(each[0]) for each in found), windows, name)
        label, *margins = (np.concatenate(each) for each in zip(*found, strict=True))
        return cls(windows, label, margins[0] if margins else None, kept)

    def pages(self, step: int) -> Iterator[Page]:
        """The design for the booster of a step, batch by batch."""
        for index, kept in zip(self.windows.batches(_ROWS), self.kept, strict=True):
            yield [design(seen(self.windows.window(index), 0, step))[0][kept]]


@contextmanager
def _signals() -> Iterator[Callable[[], None]]:
    """What delivers those that come while XGBoost reads, whose callbacks none may leave; the rest come at the end."""
    came: list[tuple[int, Any]] = []
    main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def deliver() -> None:
        while came:
            number, frame = came.pop(0)
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, lambda *signalled: came.append(signalled))
    try:
        yield deliver
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        deliver()


class _Feed(xgb.DataIter):
    """Pages for XGBoost, which passes over them repeatedly and crashes where a pass is shorter than the first."""

    def __init__(
        self,
        pages: Callable[[], Iterator[Page]],
        about: Mapping[str, list[str]],
        cache: str | None,
        deliver: Callable[[], None],
    ) -> None:
        self.pages, self.about, self.deliver = pages, about, deliver
        self.error: BaseException | None = None
        self.shapes: list[list[tuple[int, ...]]] = []  # of the pages that the first pass has handed over
        super().__init__(cache_prefix=cache)
        self.reset()

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over one page; after an error, which must not leave here, one of zeros."""
        if self.error is None:
            try:
                self.deliver()
                if page := next((each for each in self.pending if len(each[0])), None):
                    self._give(input_data, page)
                    self.shapes += [[each.shape for each in page]] * (not self.again)
                return page is not None
            except BaseException as error:
                # raised once XGBoost is through; its frames would keep the files
                self.error = error.with_traceback(None)
        if zeros := [np.zeros(shape, dtype=np.float32) for each in self.ahead[:1] for shape in each]:
            self._give(input_data, zeros)
        return bool(zeros)

    def reset(self) -> None:
        """From the first page on again."""
        self.pending, self.again, self.ahead = self.pages(), bool(self.shapes), [*self.shapes]

    def _give(self, input_data: Callable[..., Any], page: Page) -> None:
        input_data(**dict(zip(("data", "label", "base_margin"), page, strict=False)), **self.about)
        del self.ahead[:1]


def columns(windows: Windows, dims: Dims, forecaster: TreeForecaster, channel: int = 0) -> dict[str, list[str]]:
    """A name (`HUFL lag 24`) and a type (`c` for a category, `q` for a number) for each column that a booster reads."""
    covariates: dict[str, list[tuple[str, int]]] = {}
    for group in ("past", "known", "static"):
        size = getattr(dims, group)
        names = windows.encoded.names.get(group) or [f"{group} {j}" for j in range(size)]
        covariates[group] = list(zip(names, dims.cardinality.get(group) or [0] * size, strict=False))
    tabular = [name for feature in windows.encoded.window_features for name in feature.names(dims.lookback)]
    if forecaster.season:
        found = step_names(dims, covariates, tabular)
    else:
        lags = [f"lag {lag}" for lag in range(dims.lookback, 0, -1)]
        owner = (windows.encoded.names.get("target") or [f"target {c}" for c in range(dims.channels)])[channel]
        found = [(f"{owner} {lag}", 0) for lag in lags]
        found += [(f"{name} {lag}", kind) for lag in lags for name, kind in covariates["past"]]
        found += [*covariates["known"], *covariates["static"], *((name, 0) for name in tabular)]
    before: Counter[str] = Counter()
    unique = []
    for name in (name.translate(_PLAIN) for name, _ in found):
        before[name] += 1
        unique.append(name if before[name] == 1 else f"{name} ({before[name]})")
    return {"feature_names": unique, "feature_types": ["c" if kind else "q" for _, kind in found]}
