"""What the requests to a bundle look like beside its training: the rows of every request, what is new in them, once."""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tsforecast.bundle import reference
from tsforecast.bundle.bundle import Bundle
from tsforecast.bundle.request import Prediction, Request
from tsforecast.data.panel import Panel
from tsforecast.fallback import NAME
from tsforecast.files import strict
from tsforecast.serving.actuals import Kept

VERDICTS = ("ok", "watch", "act")
_SERIES, _TURN = 256, 16  # whose rows are kept, the first that come; those of one request that are looked at
_RECENT = 200  # requests after which it is forgotten that rows came again as others, or series were too short
# What is worth to watch, and to act upon: a share of values outside the range of training, and of values that came
# again as others; errors worse than all that were usual, by a part of their reach.
_OUTSIDE, _REVISED, _MISSED = (0.05, 0.25), (0.1, 0.5), (0.2, 0.6)
_BEYOND = 0.15  # part of the reach of the windows of training that a window is beyond all of them; a third is to watch
# Times as much of covariates, there being many of them, and of the median beside others: what columns have to do with
# one another moves with the seasons.
_LOOSE = 3
_FALLBACK = 0.1  # share of series that the fallback forecasts, beyond that which training left out
_FEW = 40  # windows: the fewer there are, the less is known of how far they reach
_LEAST = np.array([*[0.1] * len(reference.LEVELS), 0.25, 0.05, 0.1])  # reach of what did not vary in training
_TOLD = [f"{100 * level:g} % quantile" for level in reference.LEVELS] + ["population stability index", "share missing"]
_TOLD += ["median beside what other columns let expect"]


class Monitor:
    """Looks on at the requests to one bundle, in one process, in 0.2 ms at most of its event loop.

    Of each series the last W rows are kept, as many as the windows of training have. Overlapping requests send most
    rows again: these count once, and where they are others now, that is told.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.names = bundle, reference.names(bundle)
        self.kept = Kept(bundle)
        self.requests, self.since = 0, datetime.now(UTC).isoformat(timespec="seconds")
        self._rows: dict[str, tuple[int, Float[np.ndarray, "R X"]]] = {}  # up to which nanosecond
        self._bytes = 0
        self._revised: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=_RECENT)
        self._fallback: deque[tuple[int, int]] = deque(maxlen=_RECENT)  # series forecast by it, and of how many
        self._places = {name: i for i, name in enumerate(bundle.features.ids.tolist())}
        self._lock, self._report = threading.Lock(), ((-1, -1), dict[str, Any]())

    @property
    def held(self) -> int:
        """Bytes of the rows and forecasts that are kept."""
        return self._bytes + self.kept.bytes

    def seen(self, request: Request, found: Prediction) -> None:
        """A request, and what was forecast for it."""
        with self._lock:
            self.requests += 1
            self.kept.add(request, found)
            own = request.series >= 0  # of a series that is too short there is no window to compare
            self._fallback.append((int((~own).sum()), len(own)))
            if self.bundle.reference and own.any():
                self._look(request.panel if own.all() else request.panel.select(own))

    def _look(self, panel: Panel) -> None:
        """Add the new rows of the history of each series, and compare those that are there already."""
        context, w = self.bundle.context, int(self.bundle.reference["rows"])
        stamps = panel.time.asi8.reshape(len(panel), -1)[:, :context]
        total, share, by = 0, np.zeros(len(self.names)), np.zeros(len(self.names))
        few = range(0, len(panel), -(-len(panel) // _SERIES))  # of many, some in turn: what is missed comes again
        begin = self.requests * _TURN % len(few)
        for i in [*few, *few][begin : begin + min(_TURN, len(few))]:
            name = panel.ids[i]
            if (place := self._place(name)) is None or (name not in self._rows and len(self._rows) >= _SERIES):
                continue
            mark, old = self._rows.get(name, (-1, np.empty((0, len(self.names)), np.float32)))
            if (last := int(stamps[i, -1])) < mark:
                continue  # an earlier cutoff, asked for once more
            end = int(panel.offsets[i]) + context
            rows = reference.rows_of(self.bundle, panel, slice(max(end - w, int(panel.first[i])), end))
            there = int(np.searchsorted(stamps[i, -len(rows) :], mark, side="right"))  # rows that are not new
            both = min(there, len(old))
            before, now = old[len(old) - both :], rows[there - both : there]
            if both and before.tobytes() != now.tobytes():
                off = np.nan_to_num((now - before) / self.bundle.reference["scale"][place])
                share, by = share + (np.abs(off) > 0.01).sum(axis=0), by + off.sum(axis=0)
            total += both
            rows = np.concatenate([old[: len(old) - both], rows])[-w:] if len(rows) < w else rows
            self._rows[name] = last, rows
            self._bytes += rows.nbytes - old.nbytes
        if share.any():
            self._revised.append((self.requests, share / total, by / np.maximum(share, 1)))

    def _place(self, name: str) -> int | None:
        """Of a series in what training knows of each; None where it does not."""
        return 0 if len(self.bundle.reference["center"]) == 1 else self._places.get(name)

    def report(self) -> dict[str, Any]:
        """The verdict with its reasons, and the figures it is made from; the last one where nothing came since."""
        with self._lock:
            now, rows, revised = (self.requests, self.kept.matched), [*self._rows.items()], [*self._revised]
            naive, of = np.sum([*self._fallback, (0, 0)], axis=0).tolist()
        if self._report[0] != now:
            self._report = now, self._made(rows, revised, self._short(naive, of))
        return self._report[1]

    def _made(self, rows: list[Any], revised: list[Any], short: list[dict[str, Any]]) -> dict[str, Any]:
        w = int(self.bundle.reference.get("rows", 0))
        columns, reasons = self._columns([(name, each) for name, (_, each) in rows], w) if rows else ({}, [])
        reasons += self._revisions([each for each in revised if each[0] > self.requests - _RECENT])
        errors = self.kept.errors(self._places)
        reasons = sorted(reasons + short + self._misses(errors), key=lambda each: -VERDICTS.index(each["verdict"]))
        about = {"verdict": reasons[0]["verdict"] if reasons else "ok", "reasons": reasons, "since": self.since}
        about |= {"worker": os.getpid(), "requests": self.requests, "series": len(rows)}
        about["whole"] = sum(len(each) == w for _, (_, each) in rows)
        about |= {"rows": sum(len(each) for _, (_, each) in rows), "window": w}
        found: dict[str, Any] = strict(about | {"columns": columns, "errors": errors})
        return found

    def _columns(self, rows: list[tuple[str, np.ndarray]], w: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Each column beside training: of the series with a whole window; while there is none, of what there is."""
        known, whole = self.bundle.reference, [each for each in rows if len(each[1]) == w]
        series, parts = zip(*(whole or rows), strict=True)
        places = np.repeat([self._place(name) or 0 for name in series], [*map(len, parts)])
        values = np.concatenate(parts)
        z = (values - known["center"][places]) / known["scale"][places]
        told = reference.tell(z.T[None], known)[0]  # X F
        size = int(np.searchsorted(known["sizes"], max(1, len(whole)), side="right")) - 1
        (low, middle, high), most = known["usual"][:, size], max(_BEYOND, _FEW / max(1, int(known["windows"][size])))
        above = (told - high) / np.maximum(high - middle, _LEAST)
        below = (low - told) / np.maximum(middle - low, _LEAST)
        below[:, [reference.PSI, reference.MISSING]] = np.nan  # an index, or a share missing, is never too small
        beyond = np.fmax(above, below) if whole else np.full(told.shape, np.nan)
        beyond[:, reference.BESIDE] /= _LOOSE if len(self.names) > 1 else np.inf  # there are no other columns
        beyond[len(self.bundle.channels) :] /= _LOOSE
        told, low, high = (self._in_units(each) for each in (told, low, high))
        outside, columns, reasons = self._outside(values, places), dict[str, Any](), list[dict[str, Any]]()
        unit = " (in standard deviations from the mean of each series)" * (len(known["center"]) > 1)
        for j, name in enumerate(self.names):
            spread = [each[j].tolist() for each in (told, low, high)]
            told_of = [dict(zip(("got", "least", "most"), each, strict=True)) for each in zip(*spread, strict=True)]
            own = []
            for f, each in enumerate(told_of):
                if step := _step(beyond[j, f], (most / 3, most)):
                    what = f"the {_TOLD[f]} of the last {w} rows" + unit * (f not in (reference.PSI, reference.MISSING))
                    own.append(reason(step, name, what, each["got"], f"{each['least']:.4g} to {each['most']:.4g}"))
            if step := _step(outside[j], _OUTSIDE):
                own.append(reason(step, name, "the share outside the range of training", float(outside[j]), "0"))
            columns[name] = {
                "verdict": max((each["verdict"] for each in own), key=VERDICTS.index, default="ok"),
                "outside": {"got": float(outside[j]), "most": 0.0},
                "psi": told_of[reference.PSI],
                "missing": told_of[reference.MISSING],
                "quantiles": {f"{100 * q:g}": each for q, each in zip(reference.LEVELS, told_of, strict=False)},
            }
            reasons += own
        return columns, reasons

    def _in_units(self, told: Float[np.ndarray, "X F"]) -> Float[np.ndarray, "X F"]:
        """What windows tell in the units of the columns, where all series share means and standard deviations."""
        center, scale = self.bundle.reference["center"], self.bundle.reference["scale"]
        found, levels = told.copy(), [*range(reference.PSI), reference.BESIDE]
        if len(center) == 1:
            found[:, levels] *= scale[0, :, None]
            found[:, : reference.PSI] += center[0, :, None]
        return found

    def _outside(self, values: Float[np.ndarray, "R X"], places: Int[np.ndarray, " R"]) -> Float[np.ndarray, " X"]:
        """Share of the values of each column that training never reached; NaN for categories."""
        if (reach := self.bundle.reference.get("range")) is None:  # of a bundle that does not say
            return np.full(values.shape[1], np.nan)
        count = ((values < reach[0, places]) | (values > reach[1, places])).sum(axis=0)
        there = (~np.isnan(values)).sum(axis=0).astype(np.float64)
        there[(there == 0) | np.isin(self.names, [*self.bundle.features.categories])] = np.nan
        return np.asarray(count / there)

    def _misses(self, errors: dict[str, Any]) -> list[dict[str, Any]]:
        """What is wrong with the errors, once there are as many forecasts as the means of training are of."""
        known, found, mase = self.bundle.reference, list[dict[str, Any]](), errors["mase"]
        if "mase" not in known or errors["forecasts"] < known["rows"]:
            return found
        off = (mase["got"] - mase["most"]) / max(mase["most"] - mase["usual"], 0.1)
        if step := _step(off, _MISSED):
            found.append(reason(step, None, "the MASE", mase["got"], f"{mase['least']:.3g} to {mase['most']:.3g}"))
        for (level, each), (least, middle, most) in zip(errors["coverage"].items(), known["covered"], strict=True):
            got = float(np.nanmean(each["got"]))
            if step := _step((least - got) / max(middle - least, 0.05), _MISSED):
                what, usual = f"the coverage of the {level} % interval", f"{least:.3g} to {most:.3g}"
                found.append(reason(step, None, what, got, usual))
        return found

    def _short(self, naive: int, of: int) -> list[dict[str, Any]]:
        """Whether the fallback forecasts more than training had left out, by two standard deviations of a share."""
        left = (self.bundle.metadata.get("evaluation") or {}).get("series_left_out", 0)
        usual = left / (left + len(self.bundle.features.ids))
        if not of or naive / of <= usual + _FALLBACK + 2 * (usual * (1 - usual) / of) ** 0.5:
            return []
        what = f"the share of series forecast by {NAME} (too short for the model, or unknown to it)"
        return [reason("watch", None, what, naive / of, f"{usual:.3g}")]

    def _revisions(self, revised: list[Any]) -> list[dict[str, Any]]:
        found = []
        for j, name in enumerate(self.names):
            share, by = max(((each[1][j], each[2][j]) for each in revised), default=(0.0, 0.0))
            if (step := _step(share, _REVISED)) and abs(by) > 0.1:
                step = step if abs(by) > 0.5 else "watch"
                what = f"the share of values sent before that came again as others, {by:+.2g} standard deviations off"
                found.append(reason(step, name, what, float(share), "0"))
        return found


def reason(verdict: str, column: str | None, what: str, got: float, usual: str) -> dict[str, Any]:
    """Why a verdict is not `ok`: of which column what is how large, and what is usual."""
    return {"verdict": verdict, "column": column, "what": what, "got": got, "usual": usual}


def _step(value: float, limits: tuple[float, float]) -> str | None:
    return "act" if value > limits[1] else "watch" if value > limits[0] else None
