"""`python -m tsforecast.doctor`: what is wrong here, or with an experiment, before it is run. Try `--help`."""

from __future__ import annotations

from omegaconf import DictConfig

from tsforecast.config import job
from tsforecast.config.command import command

OF_ALL = ("json=", "paths.", "tracking", "hydra.", "threads=")  # what is said of every experiment


def main(cfg: DictConfig) -> None:
    """Tell what is found, of the experiment too where one is asked for; exit status 1 where something is to fix."""
    job.log_to(None)
    from tsforecast.checkup.findings import Findings
    from tsforecast.checkup.house import house
    from tsforecast.checkup.planned import planned

    found = Findings()
    house(found, cfg)
    own = job.Job.started(cfg)
    if any(not each.lstrip("+").startswith(OF_ALL) for each in own.overrides):
        planned(found, own)
    job.show(found.json() if cfg.json else found.text())
    if found.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    command(main, "doctor")
