"""From a composed configuration to an `Experiment`: the last place that knows a DictConfig."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.bundle.provenance import portable
from tsforecast.config.compose import build
from tsforecast.config.job import check_processes, without_trainer
from tsforecast.data.sources import Source
from tsforecast.experiment import Experiment
from tsforecast.features.base import FeatureSet
from tsforecast.models.base import Estimator
from tsforecast.training.fit import started

log = logging.getLogger(__name__)


def _data_name(cfg: DictConfig, option: str, source: Source | None) -> str:
    """What the data is called: as the option of `dataset`, or, where that reads any file, as the file; a frame so."""
    if source is not None:
        return str(getattr(source, "name", option))
    return (PurePath(cfg.dataset.path).stem if option in ("wide", "long") else "") or option


def experiment(
    cfg: DictConfig,
    chosen: Mapping[str, str],
    source: Source | None = None,
    overrides: Sequence[str] = (),
    parents: Mapping[str, str] | None = None,
) -> Experiment:
    """The experiment that the configuration of `train` describes.

    Parameters
    ----------
    chosen
        The option chosen in each config group, which names the run and the model.
    source
        In place of the one that `dataset` describes.
    overrides
        What was asked for: what of it has no effect is told.
    parents
        The runs that this one is a part of or repeats.

    Raises
    ------
    ConfigError
        A class cannot be built from its node.
    """
    model = build(cfg.model)
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    if isinstance(model, Estimator):
        check_processes()
        if spare := without_trainer(cfg, overrides):
            log.warning("Model %s has no trainer, so without effect: %s", chosen["model"], ", ".join(spare))

    def trainer(callbacks: Sequence[Any], **settings: Any) -> Any:  # built when called: it imports Lightning
        beside = [*build(cfg.callbacks).values(), *callbacks]
        built = started(build(cfg.trainer), beside, **settings)
        check_processes(built.num_nodes, built.num_devices)
        return built

    return Experiment(
        source=source or build(cfg.dataset),
        split=build(cfg.split),
        features=FeatureSet(tuple(build(cfg.feature).values()), build(cfg.scaler)),
        model=model,
        trainer=trainer,
        calibration=build(cfg.calibration),
        baselines=build(cfg.evaluation.baselines),
        lookback=cfg.lookback,
        horizon=cfg.horizon,
        season=cfg.season,
        stride=cfg.evaluation.stride,
        quantiles=tuple(cfg.quantiles),
        refit=cfg.refit,
        unused_covariates=cfg.unused_covariates,
        seed=cfg.seed,
        ckpt_path=cfg.ckpt_path,
        name=cfg.name or f"{_data_name(cfg, chosen['dataset'], source)}-{chosen['model']}",
        label=chosen["model"],
        config=portable(resolved, resolved.pop("paths")),
        overrides=tuple(overrides),
        choices=chosen,
        parents=parents or {},
    )
