"""How panel.parquet was made: `python data/panel.py` from the root of the repository.

Daily sales of 1,000 items. Sales are a level times a weekly pattern of the item's category, times what a promotion, the
price and an event do to that category, times noise. Series start on different days, between 240 and 730 before the end
they share; 1 % of the sales are missing.
"""

import numpy as np
import pandas as pd

CATEGORIES = ("bakery", "beauty", "dairy", "drinks", "garden", "produce", "toys", "wine")
EVENTS = ("none", "payday", "holiday", "clearance")


def panel_frame(series: int, rows: int, shortest: int, seed: int) -> pd.DataFrame:
    """`unique_id, ds, y, promo, price, event, category, size`: one row per item and day."""
    rng = np.random.default_rng(seed)
    n = len(CATEGORIES)
    weekly = 1 + 0.35 * np.sin(2 * np.pi * (np.arange(7)[None] / 7 + rng.random((n, 1)))) + 0.1 * rng.random((n, 7))
    lift, elasticity = rng.uniform(0.2, 1.2, n), rng.uniform(-2.5, -0.3, n)
    effect = np.column_stack([np.zeros(n), rng.uniform(0, 0.3, n), rng.uniform(-0.5, 0.8, n), rng.uniform(0.1, 0.9, n)])
    days = pd.date_range("2023-01-01", periods=rows, freq="D")
    event_of_day = np.zeros(rows, dtype=np.int64)
    event_of_day[np.flatnonzero((days.day == 1) | (days.day == 15))] = 1
    event_of_day[rng.choice(rows, rows // 25, replace=False)] = 2
    event_of_day[np.flatnonzero((days.month.isin([1, 7])) & (days.day > 24))] = 3

    lengths = rng.integers(shortest, rows + 1, series)
    item = np.repeat(np.arange(series), lengths)
    day = np.concatenate([np.arange(rows - length, rows) for length in lengths])
    category, size = rng.integers(0, n, series), rng.uniform(0.5, 3, series)
    level = size * rng.lognormal(2.0, 0.5, series)
    kind, event = category[item], event_of_day[day]
    promo = (rng.random(len(item)) < 0.08).astype(np.float32)
    price = np.exp(0.1 * rng.standard_normal(series))[item] * (1 - 0.15 * promo)
    year = 1 + 0.25 * np.sin(2 * np.pi * (day / 365.25 + rng.random(n)[kind]))
    mean = level[item] * year * weekly[kind, days.day_of_week.to_numpy()[day]]
    mean *= (1 + lift[kind] * promo) * price ** elasticity[kind] * (1 + effect[kind, event])
    sales = np.round(mean * rng.gamma(25.0, 1 / 25.0, len(item)), 1)
    sales[rng.random(len(item)) < 0.01] = np.nan
    frame = pd.DataFrame({"unique_id": np.array([f"item-{i:04d}" for i in range(series)], dtype=object)[item]})
    frame = frame.assign(ds=days[day], y=sales, promo=promo, price=np.round(price, 3))
    frame["event"], frame["category"] = np.array(EVENTS, dtype=object)[event], np.array(CATEGORIES, dtype=object)[kind]
    return frame.assign(size=np.round(size[item], 2))


if __name__ == "__main__":
    panel_frame(1000, 730, 240, seed=1).to_parquet(
        "data/panel.parquet", index=False, compression="zstd", compression_level=19
    )
