"""How far ahead a forecast looks, and how many rows back, where nobody has said so: by frequency and length."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from tsforecast.data.frequency import is_clock, parse
from tsforecast.data.panel import Panel, seasonality
from tsforecast.data.splits import LEAVING_OUT

log = logging.getLogger(__name__)
AUTO = "auto"
# Rows ahead below the name of a step: those of the M4 competition (Makridakis, Spiliotis & Assimakopoulos, 2020).
_AHEAD = {"D": 14, "B": 10, "W": 13, "M": 18, "Q": 8, "Y": 6}
_BACK = {"D": 24, "B": 8, "W": 2, "M": 3, "Q": 4, "Y": 10}  # seasons
_MOST = 96, 700  # rows ahead and back, of steps of the clock


def sizes(
    panel: Panel, split: Any, lookback: int | str, horizon: int | str, season: int | None
) -> tuple[int, int, int]:
    """Lookback and horizon, each as given or, where it is `auto`, as the data asks for, and the least rows of a window.

    Ahead a day of steps of the clock, else as far as the M4 competition, and no more than an eighth of the shortest
    series (of the median one, where short ones are dropped). Back several seasons; fewer where the train rows would
    not hold half as many windows as that are rows.

    Parameters
    ----------
    season
        Rows of a season; None: that of the frequency.
    """
    if AUTO not in (lookback, horizon):
        return int(lookback), int(horizon), _least(panel, split, int(lookback), int(horizon), season)
    step = parse(panel.freq)
    rows = int(np.median(panel.lengths) if getattr(split, "short", "error") in LEAVING_OUT else panel.lengths.min())
    season = season or seasonality(panel.freq)
    name = (step.rule_code.removeprefix("B") or "B")[0]
    ahead = min(season, _MOST[0]) if is_clock(step) else max(1, _AHEAD.get(name, season) // step.n)
    ahead = min(ahead, max(1, rows // 8)) if horizon == AUTO else int(horizon)
    most = min(7 * season, max(season, _MOST[1])) if is_clock(step) else _BACK.get(name, 3) * season
    most += most == 2 * season  # of two seasons and no row more none can be taken apart from trend
    back = _fitting(panel, split, most, ahead, season) if lookback == AUTO else int(lookback)
    chosen = [f"lookback={back}"] * (lookback == AUTO) + [f"horizon={ahead}"] * (horizon == AUTO)
    log.info("%s, for rows of freq %r, %d of a series", " ".join(chosen), panel.freq, rows)
    return back, ahead, _least(panel, split, back, ahead, season)


def _least(panel: Panel, split: Any, back: int, horizon: int, season: int | None) -> int:
    """Rows of its series that a window holds at least: all where each series has a train window, or none may be padded.

    Else a season, or what the shortest has.
    """
    if getattr(split, "short", "error") != "pad":
        return back
    borders = getattr(split, "borders", split)(panel, 1, horizon)
    rows = int((borders.train_end - borders.begin).min()) - horizon
    return back if rows >= back else max(1, min(back, rows, season or seasonality(panel.freq)))


def _fitting(panel: Panel, split: Any, most: int, horizon: int, season: int) -> int:
    """The most rows back, whole seasons where one fits, for which the train rows hold windows enough."""
    drop = getattr(split, "short", "error") in LEAVING_OUT
    for back in dict.fromkeys([*range(most, season - 1, -season), *range(season, 0, -1)]):
        borders = getattr(split, "borders", split)(panel, back, horizon)
        windows = np.diff([borders.begin, *borders.ends], axis=0) - np.array([[back], [0], [0]]) - horizon + 1
        if (drop or windows.min() > 0) and bool(2 * windows[0].clip(0).sum() >= back):
            return int(back)
    return 1
