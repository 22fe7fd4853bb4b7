"""The leaderboard: models ranked among those scored on the same rows, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tsforecast.errors import one_of
from tsforecast.files import write
from tsforecast.leaderboards.blocks import Block, Entry, apart, block_of, terms_of
from tsforecast.leaderboards.runs import Run, find
from tsforecast.markdown import table
from tsforecast.metrics import LOSSES
from tsforecast.training.results import pretrained

SHOWN = ("mase", "mse", "mae", "mae_raw", "wape", "bias", "wql")  # a standard error only of the one that ranks


@dataclass(frozen=True)
class Leaderboard:
    """Runs compared.

    Attributes
    ----------
    blocks
        Of what can be compared.
    left_out
        Folders of runs that could not be read, with the reason.
    """

    blocks: Sequence[Block]
    left_out: Mapping[str, str]
    score: str

    @property
    def entries(self) -> list[Entry]:
        """Those of all blocks."""
        return [each for block in self.blocks for each in block.entries]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All blocks: `block, dataset, horizon, rank, model, run, mse, ..., fit_seconds, predict_seconds`."""
        return pd.concat([block.frame for block in self.blocks], ignore_index=True)

    @property
    def remarks(self) -> list[str]:
        """Why there are several blocks, and which runs are left out."""
        said = []
        for block in self.blocks[1:]:
            why = [apart(block.terms, other.terms) for other in self.blocks[: block.number - 1]]
            nearest = min(range(len(why)), key=lambda i: len(why[i]))
            said.append(f"Block {block.number} is not compared with block {nearest + 1}: {'; '.join(why[nearest])}")
        runs = [{each.run.path for each in block.entries if each.fitted} for block in self.blocks]
        if len(set.union(*runs)) > 1 and max(map(len, runs)) < 2:
            said.append("No two of these runs can be compared.")
        known = {each.name: each.seen for each in self.entries}
        said += [text for name, seen in known.items() for text in pretrained(name, seen)]
        return said + [f"Left out: {path}: {reason}" for path, reason in self.left_out.items()]

    @property
    def overview(self) -> pd.DataFrame:
        """The score of each model in each block."""
        titles = {block.number: f"{block.number}. {', '.join(block.title.split(', ')[:2])}" for block in self.blocks}
        wide = self.frame.pivot(index="model", columns="block", values=self.score)
        return wide.loc[list(dict.fromkeys(self.frame["model"]))].rename(columns=titles)

    def table(self) -> str:
        """All blocks as text."""
        parts = []
        for block in self.blocks:
            cells = shown(block.frame, self.score).map(_cell)
            parts.append(f"\n{block.number}. {block.title}\n{cells.to_string(index=False)}\n{block.verdict}")
        if len(self.blocks) > 1:
            cells = self.overview.reset_index().map(_cell)
            parts.append(f"\n{self.score} of all blocks\n{cells.to_string(index=False)}")
        return "\n".join([*parts, *(f"\n{remark}" for remark in self.remarks)])

    def fev(self) -> pd.DataFrame:
        """The columns of a summary of fev (github.com/autogluon/fev); each score is a mean over folds, as there.

        The quantile loss of a point forecast is its WAPE, since fev takes the point as each of the quantiles.
        """
        rows = []
        for each in self.entries:
            record, means = each.run.record, pd.DataFrame(each.run.record.folds[each.model]).mean()
            facts, pooled = record.facts, record.scores[each.model]
            rows.append(
                {
                    "model_name": each.name,
                    "dataset_path": facts["data"]["source"],
                    "dataset_config": facts["data"]["name"],
                    "horizon": facts["horizon"],
                    "num_windows": len(record.folds[each.model]),
                    "window_step_size": facts["step"],
                    "seasonality": facts["season"],
                    "eval_metric": "MASE",
                    "quantile_levels": list(pooled.quantile_levels),
                    "target": list(pooled.channels),
                    "task_name": facts["data"]["name"],
                    "test_error": means["mase"],
                    "training_time_s": each.scores["fit_seconds"],
                    "inference_time_s": pooled.seconds,
                    "dataset_fingerprint": facts["data"]["digest"][:16],
                    "trained_on_this_dataset": each.seen.get("trained_on_this_dataset", each.fitted),
                    "MASE": means["mase"],
                    "WAPE": means["wape"],
                    "WQL": means["wql" if pooled.quantile_levels else "wape"],
                }
            )
        return pd.DataFrame(rows)

    def save(self, out: str | Path) -> list[Path]:
        """Write `leaderboard.csv`, `leaderboard.md`, `leaderboard.html` and `fev.csv`; returns their paths.

        Raises
        ------
        OutputError
            They cannot be written.
        """
        from tsforecast.leaderboards.page import page

        texts = {
            "leaderboard.csv": self.frame.to_csv(index=False),
            "leaderboard.md": self.markdown(),
            "leaderboard.html": page(self),
            "fev.csv": self.fev().to_csv(index=False),
        }
        for name, text in texts.items():
            write(Path(out) / name, text)
        return [Path(out) / name for name in texts]

    def markdown(self) -> str:
        """All blocks as Markdown."""
        parts = ["# Leaderboard"]
        for block in self.blocks:
            cells = shown(block.frame, self.score).map(_cell)
            parts += [f"## {block.number}. {block.title}", table(cells, cells.to_numpy()), block.verdict]
        return "\n\n".join([*parts, "\n".join(f"- {remark}" for remark in self.remarks)]).rstrip() + "\n"


def leaderboard(places: Sequence[str | Path], score: str = "mase") -> Leaderboard:
    """Compare the runs in these folders, or those that match these patterns.

    Parameters
    ----------
    score
        That ranks: `mase`, `mse`, `mae` (in scaled units) or `mae_raw`.

    Raises
    ------
    DataError
        As `find`.
    ConfigError
        There is no such score.
    """
    one_of("score", score, LOSSES)
    runs, left_out = find(places)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(terms_of(run, score).values()), []).append(run)
    blocks = [block_of(own, score) for own in groups.values()]
    blocks.sort(key=lambda block: (block.facts["data"]["name"], block.facts["horizon"], block.title))
    return Leaderboard([replace(block, number=i) for i, block in enumerate(blocks, start=1)], left_out, score)


def shown(frame: pd.DataFrame, score: str) -> pd.DataFrame:
    """The columns worth a look, without those in which nothing stands."""
    first = [name for name in (score, f"{score}_se") if name in frame]
    scores = [*first, *(name for name in SHOWN if name in frame and name != score)]
    coverage = [name for name in frame if str(name).startswith("coverage-") and not str(name).endswith("_se")]
    columns = ["rank", "model", "run", *scores, *coverage, "fit_seconds", "predict_seconds"]
    kept = frame[columns].dropna(axis=1, how="all").rename(columns=lambda name: name.replace("_seconds", " s"))
    return kept.assign(run=[Path(run).name for run in kept["run"]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)
