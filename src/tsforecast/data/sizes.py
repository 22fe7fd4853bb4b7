"""How far ahead a forecast looks, and how many rows back, where nobody has said so: by frequency and length."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsforecast.data.frequency import is_clock, parse
from tsforecast.data.panel import Panel, seasonality
from tsforecast.data.splits import Split
from tsforecast.errors import listed

log = logging.getLogger(__name__)
AUTO = "auto"
# Rows ahead below the name of a step: those of the M4 competition (Makridakis, Spiliotis & Assimakopoulos, 2020).
_AHEAD = {"D": 14, "B": 10, "W": 13, "M": 18, "Q": 8, "Y": 6}
_BACK = {"D": 24, "B": 8, "W": 3, "M": 10, "Q": 10, "Y": 20}  # seasons
_MOST = 96, 700  # rows ahead and back, of steps of the clock
_CUTOFFS = 3  # horizons of train windows, which other cutoffs than the last can be judged by
_LEAST = 4  # rows of a window, where a season is shorter


def sizes(
    panel: Panel,
    split: Split,
    lookback: int | str,
    horizon: int | str,
    season: int | None,
    *,
    trains: bool = True,
) -> tuple[int, int, int]:
    """Lookback and horizon, each as given or, where it is `auto`, as the data asks for; and the least rows of a window.

    Ahead a day of steps of the clock, else as far as the M4 competition, and no more than an eighth of the shortest
    series (of the median one, where short ones are left out). Back several seasons, but no more rows than the median
    series has before its test rows; fewer seasons where a model would learn from fewer windows than they have rows.

    Parameters
    ----------
    season
        Rows of a season; None: that of the frequency.
    trains
        Whether the model learns from train windows; else a long lookback costs it nothing.

    Returns
    -------
    lookback, horizon, least
        The first two are told in the log where they are chosen. `least` is all of the lookback where the train rows of
        each series hold such windows, and enough of them, or a lookback is stated and `split.short` is not `pad`; else
        a season, or what the shortest series has.
    """
    whole = lookback != AUTO and split.short != "pad"  # of what lacks so many rows the split says it
    if whole and horizon != AUTO:
        return int(lookback), int(horizon), int(lookback)
    season, step = season or seasonality(panel.freq), parse(panel.freq)
    if horizon == AUTO and not split.leaves_out and (held := held_back(panel, season)):
        log.warning("%s", held)
    typical = np.median if split.leaves_out else np.min
    rows = int(typical(panel.lengths))
    ahead = int(_ahead(panel.freq, season, rows)) if horizon == AUTO else int(horizon)
    train, known, _ = split.rows(panel, 1, ahead)
    fits = train - ahead  # rows back of the last train window
    most = min(7 * season, max(season, _MOST[1])) if is_clock(step) else _BACK.get(_letter(step), 3) * season
    most += most == 2 * season  # of two seasons and no row more none can be taken apart from trend
    most = max(1, min(most, int(np.median(known))))
    least = max(season, _LEAST) if split.leaves_out else max(1, min(max(season, _LEAST), int(fits.min())))
    back = int(lookback) if lookback != AUTO else _back(fits, most, least, season) if trains else most
    chosen = [f"lookback={back}"] * (lookback == AUTO) + [f"horizon={ahead}"] * (horizon == AUTO)
    if chosen:
        which = "" if len(panel) == 1 else "median " if split.leaves_out else "shortest "
        text = "%s, for rows of freq %r, season %d, %d in the %sseries"
        log.info(text, " ".join(chosen), panel.freq, season, rows, which)
    windows = (fits - back + 1).clip(0)  # in the train rows of each series, and some judge cutoffs before the last
    holds = typical(windows) > (_CUTOFFS * ahead if lookback == AUTO else 0) and 2 * windows.sum() >= back
    if back <= least or whole or holds:
        return back, ahead, back
    log.info("windows hold %d rows of their series at least: the rest may lie before the first row", least)
    return back, ahead, least


def held_back(panel: Panel, season: int | None) -> str:
    """Which series hold `horizon=auto` of all down to half of that by the median one, or less; empty: none."""
    rows, season = panel.lengths, season or seasonality(panel.freq)
    ahead, wanted = _ahead(panel.freq, season, rows), int(_ahead(panel.freq, season, int(np.median(rows))))
    short = np.argsort(rows, kind="stable")[: np.count_nonzero(2 * ahead <= wanted)]
    if not len(short):
        return ""
    names = listed(f"{panel.ids[i]} has {rows[i]} row" + "s" * (int(rows[i]) != 1) for i in short)
    which = f"{len(short)} shortest" if len(short) > 1 else "shortest"
    return (
        f"horizon={ahead.min()} for all {len(panel)} series, by the {which}: {names}; split.short=naive gives {wanted} "
        "and forecasts by seasonal naive what is too short for it, =drop leaves that out"
    )


def _ahead(freq: str, season: int, rows: int | Int[np.ndarray, " N"]) -> Int[np.ndarray, " *N"]:
    """Rows ahead for series of so many rows."""
    step = parse(freq)
    most = min(season, _MOST[0]) if is_clock(step) else max(1, _AHEAD.get(_letter(step), season) // step.n)
    return (np.asarray(rows) // 8).clip(1, most)


def _letter(step: pd.tseries.offsets.BaseOffset) -> str:
    """The name of a step that is none of the clock, in one letter: D, B, W, M, Q or Y."""
    return (step.rule_code.removeprefix("B") or "B")[0]


def _back(fits: Int[np.ndarray, " N"], most: int, least: int, season: int) -> int:
    """The most rows back, whole seasons where one fits, for which there are as many windows to learn from."""
    for back in [most, *range((most - 1) // season * season, season - 1, -season), *range(season - 1, 0, -1)]:
        whole, padded = ((fits - rows + 1).clip(0).sum() for rows in (back, min(back, least)))
        if 2 * whole >= back or padded >= back:
            return int(back)
    return 1
