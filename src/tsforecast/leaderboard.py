"""`python -m tsforecast.leaderboard runs=...`, and `tsf.leaderboard([...])`: runs compared. Try `--help`."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import callable_module, command
from tsforecast.config.job import show
from tsforecast.files import Place

if TYPE_CHECKING:
    from tsforecast.leaderboards.board import Leaderboard

MLFLOW = "mlflow:"


def main(cfg: DictConfig) -> None:
    """Print the table; with `out`, write it."""
    runs: Any = OmegaConf.to_container(cfg.runs) if OmegaConf.is_list(cfg.runs) else str(cfg.runs)
    board = leaderboard(runs, score=cfg.score, uri=cfg.uri)
    show(board.table())
    if cfg.out is not None:
        show("\n" + "\n".join(os.path.relpath(path) for path in board.save(cfg.out)))


def leaderboard(runs: Sequence[Place] | str, score: str = "mase", uri: str | None = None) -> Leaderboard:
    """Compare runs of `train` and `backtest`.

    Parameters
    ----------
    runs
        Their directories, folders of several such as a sweep, patterns (`outputs/*`), or `mlflow:EXPERIMENT`.
    score
        That ranks: `mase`, `mse`, `mae` (in scaled units) or `mae_raw`.
    uri
        Of the MLflow store; None: the one that runs are recorded in by default.

    Returns
    -------
    Leaderboard
        `frame`, `blocks` (what can be compared), `save(out)`.

    Raises
    ------
    DataError
        There is no such run, or none that has ended.
    ConfigError
        There is no such score.
    """
    from tsforecast.leaderboards.board import leaderboard as compared

    given = [runs] if isinstance(runs, str) else [os.fspath(each) for each in runs]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsforecast-runs-")))
        board = compared([_place(each, uri, scratch) for each in given], score)
        weakref.finalize(board, stack.pop_all().close)  # until then `save` reads forecasts there
    return board


def _place(run: str, uri: str | None, scratch: Path) -> str | Path:
    """Where a run lies, or those of an MLflow experiment are put."""
    if not run.startswith(MLFLOW):
        return run
    from tsforecast.tracking.store import download_records

    name = run.removeprefix(MLFLOW)
    return download_records(name, uri, scratch / name)


callable_module(__name__, leaderboard)

if __name__ == "__main__":
    command(main, "leaderboard")
