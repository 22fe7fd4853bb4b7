"""`python -m tsforecast.evaluate bundle=PATH dataset=...`: score a bundle on any dataset. Try `--help`."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from tsforecast.config.command import command
from tsforecast.config.compose import build, build_or_trained
from tsforecast.config.job import Job, show

log = logging.getLogger("tsforecast")


def main(cfg: DictConfig) -> None:
    """Score the bundle, and the baselines beside it, on one part of the split."""
    job = Job.started(cfg)
    assert job.out is not None  # Hydra has made one
    with job.at_work("evaluate"):
        _scored(cfg, cfg.part, job.out)


def _scored(cfg: DictConfig, part: str, out: Path) -> None:
    from tsforecast.errors import count, one_of
    from tsforecast.registry import load_bundle
    from tsforecast.training.evaluate import baselines, compare
    from tsforecast.training.prepare import Prepared
    from tsforecast.training.results import write_json

    one_of("part", part, ("train", "val", "test"))
    count("evaluation.stride", cfg.evaluation.stride)
    bundle = load_bundle(cfg.bundle)
    dataset, split = (build_or_trained(cfg, group, bundle) for group in ("dataset", "split"))
    data = Prepared.of(bundle, dataset.load(for_training=False), split, cfg.evaluation.stride)
    windows, dims = data.windows(part), data.dims
    known = part == "test" and bundle.provenance.get("data", {}).get("digest") == data.loaded.fingerprint
    if known and (early := int(data.seen(bundle, windows.origins).sum())):
        what = "%d of the windows lie in rows up to %s, on which this model was trained or chosen"
        log.warning(what + ": their scores say little about new data.", early, bundle.metadata["chosen_until"])
    log.info("%d %s windows of %d + %d rows", len(windows), part, dims.lookback, dims.horizon)
    rivals = baselines(bundle, build(cfg.evaluation.baselines), windows)
    found = compare(bundle, rivals, data, part, label="bundle")
    write_json(out / "metrics.json", found.metrics)
    build(cfg.report).write(out / "plots", found)
    show(f"\n{found.table()}\n\nScores  {out / 'metrics.json'}")


if __name__ == "__main__":
    command(main, "evaluate")
