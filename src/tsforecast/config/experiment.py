"""From a composed configuration to an `Experiment`: the last place that knows a DictConfig."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.bundle.provenance import portable
from tsforecast.config.compose import build
from tsforecast.config.job import Job, check_processes, follows, without_trainer
from tsforecast.data.sizes import AUTO
from tsforecast.errors import ConfigError, without_password
from tsforecast.experiment import Experiment
from tsforecast.features.base import FeatureSet
from tsforecast.models.base import Estimator
from tsforecast.training.fit import started

log = logging.getLogger(__name__)


def loggers(chosen: Mapping[str, Any], out: Path | None) -> list[Any]:
    """Those of Lightning's that `trainer.logger` describes by name; none where no file is to be written.

    What an earlier process has written of the same run is removed, since a fit that goes on tells all its epochs.

    Raises
    ------
    ConfigError
        One needs a package that is not installed.
    """
    made = []
    for name, each in chosen.items() if out else ():
        try:
            made.append(each(save_dir=out) if callable(each) else each)
        except ImportError as error:
            what, where = "this logger needs a package that is not installed", f"trainer.logger.{name}"
            raise ConfigError(what, where=where, got=error, fix=f"pip install {name}") from error
        if not follows() and (place := getattr(made[-1], "log_dir", None)) and Path(place).parent == out:
            shutil.rmtree(place, ignore_errors=True)
    return made


def portable_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as a provenance has it, with no place of this machine."""
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    return dict(portable(resolved, resolved.pop("paths")))


def experiment(job: Job) -> Experiment:
    """The experiment that a job of `train` or `backtest` describes; what is asked for without effect is told.

    Raises
    ------
    ConfigError
        A class cannot be built from its node, or the data was a frame, which is not there any more.
    """
    cfg, chosen, source = job.cfg, job.choices, job.source
    if job.resumed and source is None and OmegaConf.select(cfg, "dataset.path") == "memory":
        what, fix = "this run was trained on a frame in memory", "tsforecast.train('resume=RUN', data=FRAME)"
        raise ConfigError(what, where="dataset.path", fix=fix)
    if cfg.season == AUTO:
        cfg.season = None  # as models and baselines know it, too
    model = build(cfg.model)
    config = portable_config(cfg)
    if isinstance(model, Estimator):
        check_processes()
        if spare := without_trainer(cfg, job.overrides):
            log.warning("Model %s has no trainer, so without effect: %s", chosen["model"], ", ".join(spare))

    def trainer(callbacks: Sequence[Any], **settings: Any) -> Any:  # built when called: it imports Lightning
        beside = [*build(cfg.callbacks).values(), *callbacks]
        configured = build(cfg.trainer)
        own, out = configured.keywords, settings.get("default_root_dir")
        if isinstance(own.get("logger"), Mapping):
            settings = {"logger": loggers(own["logger"], out), **settings}
        built = started(configured, beside, **settings | {"default_root_dir": own.get("default_root_dir", out)})
        check_processes(built.num_nodes, built.num_devices)
        for each in built.loggers:
            each.log_hyperparams(json.loads(without_password(json.dumps(config))))
        return built

    name = str(getattr(source, "name", chosen["dataset"]))
    if source is None and chosen["dataset"] in ("wide", "long"):  # which read any file
        name = PurePath(cfg.dataset.path).stem or name
    scaler = build(cfg.scaler)
    scalers = scaler if isinstance(scaler, Mapping) else {"": scaler}
    return Experiment(
        source=source or build(cfg.dataset),
        split=build(cfg.split),
        features=FeatureSet(tuple(build(cfg.feature).values()), next(iter(scalers.values()))),
        scalers=scalers,
        model=model,
        trainer=trainer,
        calibration=build(cfg.calibration),
        baselines=build(cfg.evaluation.baselines),
        lookback=OmegaConf.to_object(cfg.lookback) if OmegaConf.is_list(cfg.lookback) else cfg.lookback,
        horizon=cfg.horizon,
        season=cfg.season,
        stride=cfg.evaluation.stride,
        covariates=cfg.evaluation.covariates,
        quantiles=tuple(cfg.quantiles),
        refit=cfg.refit,
        unused_covariates=cfg.unused_covariates,
        seed=cfg.seed,
        ckpt_path=job.checkpoint,
        name=cfg.name or f"{name}-{chosen['model']}",
        label=chosen["model"],
        config=config,
        overrides=tuple(job.overrides),
        choices=chosen,
        parents=job.parents,
    )
