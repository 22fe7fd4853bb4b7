"""One verb for every model family: `fit` dispatches on the type of the model."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, singledispatch
from pathlib import Path
from typing import Any

from tsforecast.errors import ConfigError, one_of
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.types import Dims, Encoded
from tsforecast.windows import Windows

log = logging.getLogger(__name__)
_GROUPS = ("past", "known", "static", "tabular")


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind.

    Attributes
    ----------
    history
        One record of scores per epoch, of models trained in steps.
    insights
        What the model can say about itself, as JSON values: `importance`, `past`, `known` and `static` map an input to
        its weight, `attention` is one number per row of lookback and horizon. Most models say nothing. Computed
        when it is asked for: by then the forecaster can be saved.
    note
        What a reader of the scores should know of the fit.
    """

    forecaster: Forecaster
    history: list[dict[str, float]] = field(default_factory=list)
    explain: Callable[[], dict[str, Any]] = dict
    note: str = ""

    @cached_property
    def insights(self) -> dict[str, Any]:
        """See above."""
        return self.explain()


def started(trainer: Callable[..., Any], callbacks: Sequence[Any]) -> Any:
    """The trainer, with `callbacks` beside those that it is configured with."""
    own = getattr(trainer, "keywords", {}).get("callbacks") or []
    return trainer(callbacks=[*(own if isinstance(own, Sequence) else [own]), *callbacks])


def check_covariates(model: Any, encoded: Encoded, *, label: str, unused: str) -> None:
    """What to do about covariates that the model cannot use: `error` or `ignore`, never silently.

    Raises
    ------
    ConfigError
        There are some, and `unused` is `error`.
    """
    one_of("unused_covariates", unused, ("error", "ignore"))
    uses: frozenset[str] | None = getattr(model, "uses", frozenset())
    names = {**encoded.names, "tabular": tuple(type(f).__name__.lower() for f in encoded.window_features)}
    spare = {} if uses is None else {group: names[group] for group in _GROUPS if names.get(group) and group not in uses}
    if not spare:
        return
    listing = "; ".join(f"{'window features' if g == 'tabular' else g}: {', '.join(spare[g])}" for g in spare)
    if unused == "ignore":
        log.warning("Model %s does not use %s", label, listing)
        return
    drop = {"past": "dataset.past=[]", "known": "feature=[] dataset.known=[]", "static": "dataset.static=[]",
            "tabular": "feature=[]"}  # fmt: skip
    without = " ".join(drop[group] for group in spare)
    if spare.keys() & encoded.cardinality.keys():
        coded = {group: zip(names[group], sizes, strict=True) for group, sizes in encoded.cardinality.items()}
        kept = [name for group in coded if group not in spare for name, size in coded[group] if size]
        without += f" dataset.categorical=[{','.join(kept)}]"
    raise ConfigError(
        f"model {label} cannot use these covariates",
        where="model",
        got=listing,
        allowed=", ".join(sorted(uses or ())) or "none: this model sees the target alone",
        fix=f"unused_covariates=ignore, or another model, or leave them out: {without}",
    )


@singledispatch
def fit(
    model: object,
    train: Windows,
    val: Windows,
    *,
    dims: Dims,
    trainer: Callable[..., Any],
    seed: int,
    run_dir: Path,
    ckpt_path: str | None = None,
) -> Fitted:
    """Fit `model` on the train windows, with early stopping or hyperparameters chosen on the validation windows.

    Parameters
    ----------
    trainer
        A partial of `lightning.pytorch.Trainer`; models that are not trained in steps do not call it.
    run_dir
        Where checkpoints go.
    ckpt_path
        A checkpoint to resume from.

    Raises
    ------
    ConfigError
        The model is of no known family, or cannot be resumed.
    """
    home = getattr(model, "trained_by", None)
    if home is not None:  # its fit is registered by a module that imports torch: only now is that worth its seconds
        importlib.import_module(home)
        if fit.dispatch(type(model)) is not fit.dispatch(object):
            return fit(model, train, val, dims=dims, trainer=trainer, seed=seed, run_dir=run_dir, ckpt_path=ckpt_path)
    raise ConfigError(
        "this object is not a model",
        where="model._target_",
        got=type(model).__qualname__,
        allowed="an Estimator, or tsforecast.models.neural.Neural around a network",
        fix="see docs/own-model.md",
    )


@fit.register
def _(
    model: Estimator,
    train: Windows,
    val: Windows,
    *,
    dims: Dims,
    trainer: Callable[..., Any],
    seed: int,
    run_dir: Path,
    ckpt_path: str | None = None,
) -> Fitted:
    if ckpt_path is not None:
        raise ConfigError(
            "only models trained in steps can be resumed",
            where="ckpt_path",
            got=f"{ckpt_path} with model {type(model).__name__}",
            allowed="null",
            fix="drop ckpt_path: this model is fitted in one pass",
        )
    forecaster = model.fit(train, val, dims)
    return Fitted(forecaster, explain=lambda: {"importance": weights} if (weights := forecaster.importance()) else {})
