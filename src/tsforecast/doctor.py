"""`python -m tsforecast.doctor`: what is wrong here, or with an experiment, before it is run. Try `--help`."""

from __future__ import annotations

from omegaconf import DictConfig

from tsforecast.config import job
from tsforecast.config.command import command

OF_ALL = ("json=", "paths.", "tracking", "hydra.", "threads=")  # what is said of every experiment


def main(cfg: DictConfig) -> None:
    """Tell what is found, of the experiment too where one is asked for; exit status 1 where something is to fix."""
    job.log_to(None)
    from tsforecast.checkup.findings import as_json, as_text
    from tsforecast.checkup.house import house
    from tsforecast.checkup.planned import planned

    asked = [each for each in job.overrides() if not each.lstrip("+").startswith(OF_ALL)]
    findings = [*house(cfg), *(planned(cfg, job.choices(), job.overrides()) if asked else ())]
    job.show((as_json if cfg.json else as_text)(findings))
    if any(each.level == "fix" for each in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    command(main, "doctor")
