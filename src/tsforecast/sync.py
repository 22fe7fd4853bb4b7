"""`python -m tsforecast.sync RUN`: upload what an MLflow store lacks of a run, or of a folder of runs. Try `--help`."""

from __future__ import annotations

from omegaconf import DictConfig

from tsforecast.config.command import command
from tsforecast.config.job import show


def main(cfg: DictConfig) -> None:
    """A line for each run, as it is done."""
    from pathlib import Path

    from tsforecast.tracking.upload import sync

    for line in sync(Path(cfg.runs), cfg.uri):
        show(line)


if __name__ == "__main__":
    command(main, "sync")
