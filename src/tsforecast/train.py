"""`python -m tsforecast.train`: fit, score, save, track. Try `--help`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.command import command
from tsforecast.config import build, choices, helps, limit_threads, log_to, record, run_dir, show, sweeping
from tsforecast.errors import ConfigError


def train(cfg: DictConfig) -> float | None:
    """Run one experiment; returns the score that `objective` names, for a sweeper; a process that helps has none."""
    limit_threads(cfg.threads)
    out = run_dir("bundle")
    log = log_to(out / "train.log")

    import os
    import shlex
    import time
    from dataclasses import replace

    from tsforecast import examples
    from tsforecast.data.catalogue import CATALOGUE
    from tsforecast.features.base import FeatureSet
    from tsforecast.quantiles import check_levels
    from tsforecast.tracking.provenance import provenance
    from tsforecast.tracking.runs import NoTracker
    from tsforecast.tracking.store import view
    from tsforecast.training.evaluate import baselines, evaluate
    from tsforecast.training.fit import check_covariates, fit
    from tsforecast.training.prepare import PARTS, prepare
    from tsforecast.training.results import check_objective, example_windows, flatten, readable, table, write_json
    from tsforecast.windows import check_sizes

    chosen = choices()
    label, name = chosen["model"], cfg.name or f"{chosen['dataset']}-{chosen['model']}"
    resolved: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    if not helps():
        record(cfg, out)
    sizes = {"lookback": cfg.lookback, "horizon": cfg.horizon}
    check_sizes(**sizes, season=cfg.season, **{"evaluation.stride": cfg.evaluation.stride})
    if not 0 <= cfg.seed < 2**32:
        raise ConfigError(
            "a seed is a whole number", where="seed", got=cfg.seed, allowed="0 to 2**32 - 1", fix="seed=1"
        )
    origin = provenance(resolved)
    model, calibrate, report, tracker, store = (
        build(cfg[part]) for part in ("model", "calibration", "report", "tracking", "serving")
    )
    learns = getattr(model, "learns_quantiles", False)
    levels = check_levels(resolved["quantiles"], learned=learns)
    check_objective(cfg.objective, levels)
    dataset = build(cfg.dataset)
    data = prepare(
        dataset.load(), dataset.schema, build(cfg.split),
        FeatureSet(tuple(build(cfg.feature).values()), build(cfg.scaler)), **sizes, season=cfg.season,
        levels=levels if learns else (), calibration=calibrate.fraction if levels else 0.0,
        stride=cfg.evaluation.stride,
    )  # fmt: skip
    panel, borders, dims = data.panel, data.borders, data.dims
    check_covariates(model, data.encoded, label=label, unused=cfg.unused_covariates)
    fitting, validation, held_out, test = (data.windows(part) for part in PARTS)
    calibrate.check(held_out, levels, learned=learns)
    log.info("%s: %d series, %d rows, %s; windows of %d + %d rows: %d train, %d val, %d calibration, %d test",
             chosen["dataset"], len(panel), len(panel.time), " ".join(panel.channels), cfg.lookback, cfg.horizon,
             len(fitting), len(validation), len(held_out), len(test))  # fmt: skip

    def trainer(**arguments: Any) -> Any:  # built when called: a tabular model never pays for importing Lightning
        built = build(cfg.trainer)(**arguments)
        if sweeping() and built.world_size > 1:
            raise ConfigError("a sweep cannot train in several processes: each would run the whole sweep",
                              where="trainer.devices", got=built.world_size, fix="trainer.devices=1")  # fmt: skip
        return built

    with (NoTracker() if helps() else tracker).run(
        name, resolved, {k: chosen[k] for k in ("dataset", "model")}, origin
    ) as run:
        began = time.perf_counter()
        fitted = fit(model, fitting, validation, dims=dims, trainer=trainer, seed=cfg.seed, run_dir=out,
                     ckpt_path=cfg.ckpt_path)  # fmt: skip
        if helps():
            return None
        flat = {"time/fit_seconds": time.perf_counter() - began}
        bundle = calibrate(data.bundle(fitted.forecaster), held_out, levels)
        rivals = baselines(bundle, build(cfg.evaluation.baselines), fitting)
        began = time.perf_counter()
        scores = {label: evaluate(bundle, panel, test, data.scale)}
        flat["time/score_seconds"] = time.perf_counter() - began
        flat |= flatten(scores[label], "test", detail=True)
        flat |= flatten(evaluate(bundle, panel, validation, data.scale), "val")
        for rival, other in rivals.items():
            scores[rival] = scores[label] if rival == label else evaluate(other, panel, test, data.scale)
            flat |= flatten(scores[rival], f"baseline/{rival}/test")

        source = dataset.describe(len(panel.time))
        summary = {key: value for key, value in flat.items() if key.count("/") == 1 and not key.startswith("time/")}
        until = str(panel.time[borders.val_end - 1].max())  # rows up to here chose something
        metadata = {"name": name, "scores": summary, "data": source, "chosen_until": until, "provenance": origin}
        bundle = replace(bundle, metadata=metadata)
        bundle = examples.with_golden(bundle, panel.rows(borders.begin, borders.train_end)).save(out / "bundle")
        write_json(out / "metrics.json", flat)
        if fitted.insights:
            write_json(out / "interpretation.json", fitted.insights)
            run.log_artifact(out / "interpretation.json")
        report.write(
            out / "plots",
            title=f"{name}, horizon {cfg.horizon}",
            examples=lambda count: example_windows(bundle, rivals.get("seasonal_naive"), panel, test, count),
            by_step={rival: each.by_step() for rival, each in scores.items()},
            insights=readable(fitted.insights, cfg.lookback),
        )
        run.log_metrics(flat)
        run.log_epochs(fitted.history)
        run.log_dataset(**source)
        run.log_bundle(out / "bundle", examples.example(bundle, panel), bundle.levels)
        run.log_artifacts(out / "plots", "plots")
        for file in ("config.yaml", "metrics.json", "train.log"):
            run.log_artifact(out / file)
    # After the run is closed: what goes wrong here loses nothing. One of a sweep is not yet the one to serve.
    tag = None if sweeping() else store.put(out / "bundle", name)

    drops = cfg.split.get("short") == "drop"
    place, source_file = (shlex.quote(os.path.relpath(path)) for path in (out, dataset.file))
    show(f"\n{table(scores, label)}\n\nRun directory  {place}\n\nNext\n"
         f"  python -m tsforecast.predict bundle={place}/bundle input={source_file} output=forecast.csv"
         + f"{' known_future=FUTURE.csv' if bundle.known_names else ''}{' short=drop' if drops else ''}\n"
         f"  python -m tsforecast.evaluate bundle={place}/bundle"
         + ("" if dataset.path in CATALOGUE else f" +dataset.path={source_file}")
         + (f"\n  TSFORECAST_BUNDLE={tag} bentoml serve tsforecast.serving.service:Forecaster" if tag else "")
         + (f"\n  {view(tracker.uri)}" if run.id else ""))  # fmt: skip
    return flat[cfg.objective]


if __name__ == "__main__":
    command(train, "train")
