"""Scores of forecasts, streamed: sums are kept, never the windows, so a test set of any length fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from tsforecast.errors import ConfigError
from tsforecast.quantiles import RAW, SCALED, QuantileScores, ratio

ABSOLUTE, SQUARE, LABEL, LABEL_SQUARE = range(4)  # sums of |e|, e^2, label and label^2, the label less its `shift`
LOSSES = ("mae", "mse", "mase", "mae_raw")  # what is kept of each window
AVERAGES = {"mse": (SCALED, SQUARE), "mae": (SCALED, ABSOLUTE), "mse_raw": (RAW, SQUARE), "mae_raw": (RAW, ABSOLUTE)}
BLOCK = 2**17  # numbers worked on at a time: what a core's cache holds


@dataclass
class Scores:
    """Point-forecast metrics, each label weighing the same; missing labels (NaN) are skipped.

    A NaN forecast of an observed label is not: it makes the score NaN. Summing in batches gives what one call gives.

    Parameters
    ----------
    channels
        Target names, C of them.
    horizon
        H.
    mase_scale, rmsse_scale
        What `seasonal_scale` gives, in original units, [N C].
    quantile_levels
        Of the quantile forecasts; their scores are kept in `quantiles`, None where there are none.
    keep
        Whether to keep the loss of each window too, for tests of a difference.
    """

    channels: tuple[str, ...]
    horizon: int
    mase_scale: Float[np.ndarray, "N C"]
    rmsse_scale: Float[np.ndarray, "N C"]
    quantile_levels: tuple[float, ...] = ()
    keep: bool = False

    def __post_init__(self) -> None:
        channels, horizon = shape = len(self.channels), self.horizon
        self.quantiles = QuantileScores(self.quantile_levels, horizon) if self.quantile_levels else None
        self.windows, self.seconds = 0, 0.0  # that were scored, and what their forecasts took
        self._sums, self._count = np.zeros((2, 4, *shape)), np.zeros(shape, dtype=np.int64)
        self._by_series = np.zeros((len(self.mase_scale), 3, channels))  # sums of |e| and e^2, number of labels
        self._relative = np.zeros(3)  # sums for sMAPE and MAPE, zero labels
        self._size, self._error = np.zeros((2, channels))  # sums of |label| and of error in original units
        self.totals = {"sums": self._sums, "count": self._count, "by_series": self._by_series}  # what is added to
        self.totals |= {"relative": self._relative, "size": self._size, "error": self._error}
        spread = {} if self.quantiles is None else self.quantiles.totals
        self.totals |= {f"quantiles_{name}": total for name, total in spread.items()}
        self._shift: list[np.ndarray] = []
        self._losses: list[np.ndarray] = []

    def update(
        self,
        label_scaled: Float[np.ndarray, "B H C"],
        forecast_scaled: Float[np.ndarray, "B H C"],
        label_raw: Float[np.ndarray, "B H C"],
        forecast_raw: Float[np.ndarray, "B H C"],
        series: Int[np.ndarray, " B"],
    ) -> None:
        """Add windows; `series` is the row of `mase_scale` that each belongs to.

        Fastest where the steps of a channel follow one another in memory, as `Windows` and linear models lay them.
        """
        if not len(label_raw):
            return
        self.windows += len(label_raw)
        if not self._shift:
            self._shift = [np.repeat(_level(label), self.horizon) for label in (label_scaled, label_raw)]
        size = max(1, BLOCK // self._count.size)
        for i in range(0, len(label_raw), size):
            arrays = (a[i : i + size] for a in (label_scaled, forecast_scaled, label_raw, forecast_raw))
            self._add(*(a.swapaxes(1, 2).reshape(len(a), -1) for a in arrays), series[i : i + size])

    def _add(self, *block: np.ndarray) -> None:
        """One block of flat `[B C*H]` arrays, as `update` takes them."""
        *arrays, series = block
        observed = ~np.isnan(arrays[0]) if np.isnan(arrays[0].sum()) else None
        ones = np.ones(len(series), dtype=arrays[0].dtype)
        shape = self._count.shape
        losses: list[np.ndarray] = []
        for unit in (SCALED, RAW):
            label, forecast = arrays[2 * unit : 2 * unit + 2]
            if observed is not None:  # a missing label adds 0 to every sum
                label = np.where(observed, label, self._shift[unit])
                forecast = np.where(observed, forecast, label)
            error = forecast - label
            absolute = np.abs(error)
            deviation = label - self._shift[unit]
            squares = [np.einsum("bk,bk->k", a, a) for a in (error, deviation)]
            sums = np.stack([ones @ absolute, squares[0], ones @ deviation, squares[1]])
            self._sums[unit] += sums.reshape(4, *shape)
            if self.keep:
                labels = np.full(len(series), absolute.shape[1]) if observed is None else observed.sum(axis=1)
                losses += [ratio(absolute.sum(1), labels)]
                losses += [ratio((error * error).sum(1), labels)] if unit == SCALED else []
        self._error += (ones @ error).reshape(shape).sum(axis=1)
        self._count += len(series) if observed is None else observed.sum(axis=0).reshape(shape)
        there = np.ones_like(error) if observed is None else observed
        if len(self._by_series) > 1:
            per_window = [a.reshape(-1, *shape).sum(axis=2) for a in (absolute, error * error, there)]
            np.add.at(self._by_series, series, np.stack(per_window, axis=1).astype(np.float64))
        if self.keep:
            each, count = (a.reshape(-1, *shape).sum(axis=2) for a in (absolute, there))
            each = ratio(each, count * self.mase_scale[series])
            mase = ratio(np.nansum(each, axis=1), (~np.isnan(each)).sum(axis=1))
            self._losses.append(np.stack([*losses[:2], mase, losses[2]], axis=1).astype(np.float32))
        size, total = np.abs(label), np.abs(forecast, out=error)
        self._size += (ones @ (size if observed is None else size * observed)).reshape(shape).sum(axis=1)
        total += size
        if size.min() == 0.0:
            zero = size == 0.0
            total[total == 0.0] = 1.0  # 0 forecast as 0 is no error
            self._relative[2] += (zero if observed is None else zero & observed).sum()
            size[zero] = np.inf
        np.divide(absolute, total, out=total)
        np.divide(absolute, size, out=size)
        self._relative[:2] += 2 * total.sum(), size.sum()

    def summary(self) -> dict[str, float]:
        """All scores by name.

        Scaled units (what the literature's tables state): `mse, mae, rmse, r2`. Original units: the same with
        `_raw`; `smape` (2|e| / (|y| + |f|), in [0, 2], Makridakis 1993) and `mape` as fractions, the latter over
        the labels that are not 0, with `mape_zero_share` the share of those that are; `wape`, sum |e| over sum |y| of
        each channel, averaged over channels as fev does; `bias` likewise, the sum of forecast less label over sum |y|,
        below 0 where forecasts are too low; `mase` and `rmsse` (Hyndman & Koehler, 2006), the mean over
        series and channels, of which `mase_skipped` have a scale of 0 and are left out.
        R² is taken per channel and averaged, as `sklearn.metrics.r2_score` does. `windows` is how many were scored.
        """
        count, zeros = self._count.sum(), self._relative[2]
        scores: dict[str, float] = {}
        for unit, suffix in ((SCALED, ""), (RAW, "_raw")):
            absolute, square, *_ = self._sums[unit].sum(axis=(1, 2))
            channel, labels = self._sums[unit].sum(axis=2), self._count.sum(axis=1)
            spread = channel[LABEL_SQUARE] - ratio(channel[LABEL] ** 2, labels)
            scores[f"mse{suffix}"], scores[f"mae{suffix}"] = float(ratio(square, count)), float(ratio(absolute, count))
            scores[f"rmse{suffix}"] = float(np.sqrt(scores[f"mse{suffix}"]))
            scores[f"r2{suffix}"] = _mean(1.0 - ratio(channel[SQUARE], spread), spread > 0)
        by_series = self._each_series()
        seen = by_series[:, 2] > 0
        usable = seen & (self.mase_scale > 0)
        absolute, square = (ratio(by_series[:, i], by_series[:, 2]) for i in (0, 1))
        return scores | {
            "smape": float(ratio(self._relative[0], count)),
            "mape": float(ratio(self._relative[1], count - zeros)),
            "mape_zero_share": float(ratio(zeros, count)),
            "wape": _mean(ratio(self._sums[RAW, ABSOLUTE].sum(axis=1), self._size), self._size > 0),
            "bias": _mean(ratio(self._error, self._size), self._size > 0),
            "mase": _mean(ratio(absolute, self.mase_scale), usable),
            "rmsse": _mean(ratio(np.sqrt(square), self.rmsse_scale), usable),
            "mase_skipped": float((seen & ~usable).sum()),
            "windows": float(self.windows),
            **(self.quantiles.summary() if self.quantiles is not None else {}),
        }

    @property
    def losses(self) -> Float[np.ndarray, "B 4"]:
        """The `LOSSES` of each window, in the order they came; with `keep`.

        Mean absolute and mean squared error in scaled units, MASE, and mean absolute error in original units.
        """
        return np.concatenate(self._losses) if self._losses else np.empty((0, len(LOSSES)), dtype=np.float32)

    def merge(self, other: Scores) -> Scores:
        """What both have seen, as one: the folds of a backtest, the parts of a panel. Neither is changed.

        An error is scaled (MASE, RMSSE) by the train rows of its own part.

        Raises
        ------
        ValueError
            They are of other channels, horizons, quantile levels or series.
        """
        if any(getattr(self, name) != getattr(other, name) for name in ("channels", "horizon", "quantile_levels")):
            raise ValueError("scores of other channels, horizons or quantile levels cannot be merged")
        merged = Scores(self.channels, self.horizon, self.mase_scale, self.rmsse_scale, self.quantile_levels, self.keep)
        merged._shift = self._shift or other._shift
        for part in (self, other):
            sums = part._sums.copy()
            for unit, (old, new) in enumerate(zip(part._shift, merged._shift, strict=False)):
                by = (old.astype(np.float64) - new).reshape(part._count.shape)  # a label's distance from the shift
                sums[unit, LABEL_SQUARE] += 2 * by * sums[unit, LABEL] + part._count * by**2
                sums[unit, LABEL] += part._count * by
            each = part._each_series()
            each[:, 0] *= np.nan_to_num(ratio(self.mase_scale, part.mase_scale))
            each[:, 1] *= np.nan_to_num(ratio(self.rmsse_scale, part.rmsse_scale)) ** 2
            merged.windows += part.windows
            merged.seconds += part.seconds
            merged._losses += part._losses
            for name, total in {**part.totals, "sums": sums, "by_series": each}.items():
                merged.totals[name] += total
        return merged

    def state(self) -> dict[str, np.ndarray]:
        """All sums as arrays, for `restore`."""
        names = ("quantile_levels", "keep", "mase_scale", "rmsse_scale", "windows", "seconds")
        about = {name: np.asarray(getattr(self, name)) for name in names}
        about |= {"channels": np.asarray(self.channels, dtype=np.str_), "losses": self.losses}
        return self.totals | about | {"shift": np.stack(self._shift) if self._shift else np.empty((0, 0))}

    @classmethod
    def restore(cls, state: Mapping[str, np.ndarray]) -> Scores:
        """The scores that `state()` is of."""
        names, quantiles = tuple(state["channels"].tolist()), tuple(state["quantile_levels"].tolist())
        scales, keep = (state["mase_scale"], state["rmsse_scale"]), bool(state["keep"])
        scores = cls(names, state["count"].shape[1], *scales, quantile_levels=quantiles, keep=keep)
        scores.windows, scores.seconds = int(state["windows"]), float(state["seconds"])
        scores._shift = list(state["shift"])
        scores._losses = [state["losses"]] if len(state["losses"]) else []
        for name, total in scores.totals.items():
            total += state.get(name, np.asarray(np.nan))  # not known of a run from before it was summed
        return scores

    def _each_series(self) -> Float[np.ndarray, "N 3 C"]:
        """`_by_series`; one series alone is not summed apart, unless it was merged."""
        if len(self._by_series) > 1 or self._by_series.any():
            return self._by_series.copy()
        return np.stack([*self._sums[RAW, :2].sum(axis=2), self._count.sum(axis=1)])[None]

    def by_series(self) -> Float[np.ndarray, "N C"]:
        """MASE of each series and channel; NaN where nothing was observed or the scale is 0."""
        absolute, _, labels = self._each_series().transpose(1, 0, 2)
        return ratio(absolute, labels * self.mase_scale)

    def by_channel(self) -> dict[str, dict[str, float]]:
        """`mse, mae, mse_raw, mae_raw` of each channel by name."""
        return {name: dict(zip(self.channels, means, strict=True)) for name, means in self._means(over=1).items()}

    def absolute(self) -> Float[np.ndarray, "C H"]:
        """Mean absolute error of each channel and step, in original units."""
        return ratio(self._sums[RAW, ABSOLUTE], self._count)

    def by_step(self) -> dict[str, list[float]]:
        """`mse, mae, mse_raw, mae_raw`, and `coverage-90` of each interval, of each of the H steps ahead."""
        return self._means(over=0) | (self.quantiles.by_step() if self.quantiles is not None else {})

    def _means(self, *, over: int) -> dict[str, list[float]]:
        count = self._count.sum(axis=over)
        return {name: ratio(self._sums[at].sum(axis=over), count).tolist() for name, at in AVERAGES.items()}


def seasonal_scale(
    target: Float[np.ndarray, "T C"],
    offsets: Int[np.ndarray, " N+1"],
    begin: Int[np.ndarray, " N"],
    end: Int[np.ndarray, " N"],
    season: int,
) -> tuple[Float[np.ndarray, "N C"], Float[np.ndarray, "N C"]]:
    """In-sample error of the seasonal naive forecast over the train rows, the denominators of MASE and RMSSE.

    Mean absolute and root mean square of `y[t] - y[t - season]` over rows `begin[i]:end[i]` of each series; pairs
    with a missing value are skipped; 0 where a series has no pair.

    Raises
    ------
    ConfigError
        The season is not positive.
    """
    if season < 1:
        raise ConfigError("a season is at least one row", where="season", got=season, fix="season=1")
    first = np.maximum(begin, offsets[:-1]) + season
    last = np.minimum(end, offsets[1:])
    difference = np.full((len(target) + 1, target.shape[1]), np.nan)  # one spare row: reduceat may point past the end
    difference[season:-1] = target[season:].astype(np.float64) - target[:-season]
    some = last > first
    pairs = np.stack([first[some], last[some]], axis=1).reshape(-1)

    def total(values: np.ndarray) -> np.ndarray:
        out = np.zeros((len(some), values.shape[1]))
        if some.any():
            out[some] = np.add.reduceat(values, pairs, axis=0)[::2]
        return out

    paired = ~np.isnan(difference)
    difference[~paired] = 0.0
    count = np.maximum(total(paired.astype(np.float64)), 1.0)
    return total(np.abs(difference)) / count, np.sqrt(total(difference**2) / count)


def _level(label: Float[np.ndarray, "B H C"]) -> Float[np.ndarray, " C"]:
    """Roughly the mean of each channel: squares are summed about it, as about 0 float32 would lose the variance."""
    observed = ~np.isnan(label)
    mean = ratio(np.where(observed, label, 0.0).sum(axis=(0, 1)), observed.sum(axis=(0, 1)))
    return np.asarray(np.nan_to_num(mean), dtype=label.dtype)


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    return float(values[where].mean()) if where.any() else float("nan")
