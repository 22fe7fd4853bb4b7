"""`python -m tsforecast.train`: fit, score, save, track. Try `--help`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import command
from tsforecast.config.compose import build
from tsforecast.config.job import (
    check_processes,
    choices,
    helps,
    limit_threads,
    log_to,
    record,
    run_dir,
    show,
    sweeping,
    without_trainer,
)
from tsforecast.errors import ConfigError


def train(cfg: DictConfig) -> float | None:
    """Run one experiment; returns the score that `objective` names, for a sweeper; a process that helps has none."""
    limit_threads(cfg.threads)
    out = run_dir("bundle")
    log = log_to(out / "train.log", silent=helps())

    import os
    import shlex
    import time
    from dataclasses import replace

    from tsforecast.bundle import golden
    from tsforecast.bundle.provenance import provenance
    from tsforecast.data.catalogue import CATALOGUE
    from tsforecast.features.base import FeatureSet
    from tsforecast.models.naive import SeasonalNaiveForecaster
    from tsforecast.quantiles import check_quantiles
    from tsforecast.report.examples import Run
    from tsforecast.tracking.client import view
    from tsforecast.tracking.runs import NoTracker
    from tsforecast.training.evaluate import baselines, check_labels, evaluate
    from tsforecast.training.fit import check_covariates, fit, started
    from tsforecast.training.prepare import PARTS, prepare
    from tsforecast.training.results import check_objective, flatten, table, write_json
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
    if not hasattr(model, "trained_by"):
        check_processes()
        if spare := without_trainer(cfg):
            log.warning("Model %s has no trainer, so without effect: %s", label, ", ".join(spare))
    learns = getattr(model, "learns_quantiles", False)
    quantiles = check_quantiles(resolved["quantiles"], learned=learns)
    check_objective(cfg.objective, quantiles)
    dataset = build(cfg.dataset)
    data = prepare(
        dataset.load(), dataset.schema, build(cfg.split),
        FeatureSet(tuple(build(cfg.feature).values()), build(cfg.scaler)), **sizes, season=cfg.season,
        quantile_levels=quantiles if learns else (), calibration=calibrate.fraction if quantiles else 0.0,
        stride=cfg.evaluation.stride,
    )  # fmt: skip
    panel, borders, dims = data.panel, data.borders, data.dims
    check_covariates(model, data.encoded, label=label, unused=cfg.unused_covariates)
    fitting, validation, held_out, test = (data.windows(part) for part in PARTS)
    calibrate.check(held_out, quantiles, learned=learns)
    for part in (validation, test):
        check_labels(part)
    training_rows = panel.rows(borders.begin, borders.train_end)
    golden.rehearse(data.bundle(SeasonalNaiveForecaster(1, cfg.horizon)), training_rows)
    log.info("%s: %d series, %d rows, %s; windows of %d + %d rows: %d train, %d val, %d calibration, %d test",
             chosen["dataset"], len(panel), len(panel.time), " ".join(panel.channels), cfg.lookback, cfg.horizon,
             len(fitting), len(validation), len(held_out), len(test))  # fmt: skip

    def trainer(callbacks: Any) -> Any:  # built when called: a tabular model never pays for importing Lightning
        built = started(build(cfg.trainer), callbacks)
        check_processes(built.num_nodes, built.num_devices)
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
        source = dataset.describe(len(panel.time))
        until = str(panel.time[borders.val_end - 1].max())  # rows up to here chose something
        metadata = {"name": name, "data": source, "chosen_until": until, "provenance": origin}
        bundle = replace(data.bundle(fitted.forecaster), metadata=metadata)
        try:
            bundle = calibrate(bundle, held_out, quantiles)
            rivals = baselines(bundle, build(cfg.evaluation.baselines), fitting)
            began = time.perf_counter()
            scores = {label: evaluate(bundle, panel, test, data.scale, keep=True)}
            flat["time/score_seconds"] = time.perf_counter() - began
            flat |= flatten(scores[label], "test", detail=True)
            flat |= flatten(evaluate(bundle, panel, validation, data.scale), "val")
            for rival, other in rivals.items():
                scores[rival] = scores[label] if rival == label else evaluate(other, panel, test, data.scale)
                flat |= flatten(scores[rival], f"baseline/{rival}/test")
            summary = {key: value for key, value in flat.items() if key.count("/") == 1 and not key.startswith("time/")}
            bundle = golden.with_golden(replace(bundle, metadata={**metadata, "scores": summary}), training_rows)
        finally:  # whatever goes wrong loses neither the weights nor the scores so far
            bundle = bundle.save(out / "bundle")
            write_json(out / "metrics.json", flat)
            run.log_metrics(flat)
            for each in fitted.history:
                run.epoch(each)
            run.log_dataset(**source)
        run.log_bundle(out / "bundle", golden.example(bundle, panel), bundle.quantile_levels)
        if fitted.insights:
            write_json(out / "interpretation.json", fitted.insights)
            run.log_artifact(out / "interpretation.json")
        title, seasonal = f"{name}, horizon {cfg.horizon}", rivals.get("seasonal_naive")
        report.write(out / "plots", Run(title, bundle, seasonal, scores, panel, test, fitted.insights))
        if (out / "plots").is_dir():
            run.log_artifact(out / "plots", "plots")
        for file in ("config.yaml", "metrics.json", "train.log"):
            run.log_artifact(out / file)
    # After the run is closed: what goes wrong here loses nothing. One of a sweep is not yet the one to serve.
    tag = None if sweeping() else store.put(out / "bundle", name)

    drops = cfg.split.get("short") == "drop"
    place, source_file = (shlex.quote(os.path.relpath(path)) for path in (out, dataset.file))
    told = "\n".join(filter(None, (table(scores, label), fitted.note)))
    show(f"\n{told}\n\nRun directory  {place}\n\nNext\n"
         f"  python -m tsforecast.predict bundle={place}/bundle input={source_file} output=forecast.csv"
         + f"{' known_future=FUTURE.csv' if bundle.schema.known else ''}{' short=drop' if drops else ''}\n"
         f"  python -m tsforecast.evaluate bundle={place}/bundle"
         + ("" if dataset.path in CATALOGUE else f" +dataset.path={source_file}")
         + (f"\n  TSFORECAST_BUNDLE={tag} bentoml serve tsforecast.serving.service:Forecaster" if tag else "")
         + (f"\n  {view(tracker.uri)}" if run.id else ""))  # fmt: skip
    return flat[cfg.objective]


if __name__ == "__main__":
    command(train, "train")
