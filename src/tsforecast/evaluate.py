"""`python -m tsforecast.evaluate bundle=PATH dataset=...`: score a bundle on any dataset. Try `--help`."""

from __future__ import annotations

import logging

from omegaconf import DictConfig

from tsforecast.config.command import command
from tsforecast.config.compose import build, build_or_trained
from tsforecast.config.job import show, start

log = logging.getLogger("tsforecast")


def main(cfg: DictConfig) -> None:
    """Score the bundle, and the baselines beside it, on one part of the split."""
    bundle_path, part = cfg.bundle, cfg.part  # a missing one is said before anything is imported
    out = start(cfg, "metrics.json", "evaluate.log")

    from dataclasses import replace

    import pandas as pd

    from tsforecast.errors import count, one_of
    from tsforecast.registry import load_bundle
    from tsforecast.training.evaluate import baselines, compare
    from tsforecast.training.prepare import Prepared
    from tsforecast.training.results import write_json

    one_of("part", part, ("train", "val", "test"))
    count("evaluation.stride", cfg.evaluation.stride)
    bundle = load_bundle(bundle_path)
    dims = bundle.dims
    dataset, split = (build_or_trained(cfg, group, bundle) for group in ("dataset", "split"))
    loaded = dataset.load(for_training=False)
    panel = bundle.panel(loaded.panel, short=getattr(split, "short", "error"))
    panel, borders = split(panel, dims.lookback, dims.horizon).kept(panel)
    encoded = bundle.features.encode(panel)
    data = Prepared(replace(loaded, panel=panel), borders, bundle.features, encoded, dims, cfg.evaluation.stride)
    windows = data.windows(part)
    seen, until = bundle.provenance.get("data", {}).get("digest"), bundle.metadata.get("chosen_until")
    known = part == "test" and seen == loaded.fingerprint
    if until and known and (early := int((panel.time[windows.origins] <= pd.Timestamp(until)).sum())):
        what = "%d of the windows lie in rows up to %s, on which this model was trained or chosen"
        log.warning(what + ": their scores say little about new data.", early, until)
    log.info("%d %s windows of %d + %d rows", len(windows), part, dims.lookback, dims.horizon)
    rivals = baselines(bundle, build(cfg.evaluation.baselines), windows)
    found = compare(bundle, rivals, data, part, label="bundle")
    write_json(out / "metrics.json", found.metrics)
    build(cfg.report).write(out / "plots", found)
    show(f"\n{found.table()}\n\nScores  {out / 'metrics.json'}")


if __name__ == "__main__":
    command(main, "evaluate")
