"""One verb for every model family: `fit` dispatches on the type of the model."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, singledispatch
from pathlib import Path
from typing import Any, Protocol

from tsforecast.errors import ConfigError
from tsforecast.models.base import Estimator, Forecaster
from tsforecast.models.ensemble import Ensemble
from tsforecast.types import Dims
from tsforecast.windows import Windows


class Events(Protocol):
    """Listens to a fit: a progress bar, a tracker, a pruner."""

    def epoch(self, record: Mapping[str, float]) -> bool | None:
        """After each epoch of a model trained in steps.

        Parameters
        ----------
        record
            `epoch`, `train/loss`, `val/loss` and `lr`, as in `Fitted.history`.

        Returns
        -------
        bool or None
            True ends the fit here; the weights of the best epoch so far are kept.
        """


class Silent:
    """Nobody listens."""

    def epoch(self, record: Mapping[str, float]) -> None:
        """Go on."""


@dataclass(frozen=True)
class Fitting:
    """How a model is fitted, whichever it is.

    Attributes
    ----------
    trainer
        A partial of `lightning.pytorch.Trainer`; models that are not trained in steps do not call it.
    out
        Where checkpoints go; None: nothing is written.
    ckpt_path
        A checkpoint to resume from.
    on
        Is told of every epoch.
    until
        When the run is to end, by `time.monotonic`: the one budget of its fits, forecasts and intervals.
    """

    dims: Dims
    trainer: Callable[..., Any]
    seed: int = 1
    out: Path | None = None
    ckpt_path: str | None = None
    on: Events = field(default_factory=Silent)
    until: float = math.inf

    @property
    def left(self) -> float:
        """Seconds until the run is to end."""
        return self.until - time.monotonic()

    def apart(self, share: float = 1.0) -> Fitting:
        """Another fit of the run, in a share of what is left: nothing is written, and nobody listens."""
        return replace(self, out=None, ckpt_path=None, on=Silent(), until=time.monotonic() + share * self.left)


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
    chosen
        What the fit chose on the validation windows, as JSON values: ridge's `lambda`, the `strategy` of
        boosters, their `rounds` and `base`, the `epochs` of a network and its `warm_start`. `model.refitting(chosen)`
        is the model that takes them as given: it chooses nothing and reads no validation windows.
    """

    forecaster: Forecaster
    history: list[dict[str, float]] = field(default_factory=list)
    explain: Callable[[], dict[str, Any]] = dict
    note: str = ""
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, Any]:
        """What of the choice a bundle says of itself: the weights of an ensemble."""
        return {name: each for name, each in self.chosen.items() if name == "weights"}

    @cached_property
    def insights(self) -> dict[str, Any]:
        """See above."""
        return self.explain()


def started(trainer: Callable[..., Any], callbacks: Sequence[Any], **settings: Any) -> Any:
    """The trainer, with `callbacks` beside those that it is configured with."""
    own = getattr(trainer, "keywords", {}).get("callbacks") or []
    return trainer(callbacks=[*(own if isinstance(own, Sequence) else [own]), *callbacks], **settings)


@singledispatch
def fit(model: object, train: Windows, val: Windows, fitting: Fitting) -> Fitted:
    """Fit `model` on the train windows, with early stopping or hyperparameters chosen on the validation windows.

    Raises
    ------
    ConfigError
        The model is of no known family, or cannot be resumed.
    """
    from tsforecast.training import neural  # noqa: F401 - registers the networks' own: only now is torch worth its seconds

    if fit.dispatch(type(model)) is not fit.dispatch(object):
        return fit(model, train, val, fitting)
    what, allowed = "this object is not a model", "an Estimator, or tsforecast.models.neural.Neural around a network"
    got, fix = type(model).__qualname__, "see docs/own-model.md"
    raise ConfigError(what, where="model._target_", got=got, allowed=allowed, fix=fix)


@fit.register
def _(model: Estimator, train: Windows, val: Windows, fitting: Fitting) -> Fitted:
    if fitting.ckpt_path is not None:
        got = f"{fitting.ckpt_path} with model {type(model).__name__}"
        raise ConfigError("only models trained in steps can be resumed", where="ckpt_path", got=got, allowed="null")
    step = getattr(fitting.on, "step", None)  # a listener that wants to hear of rounds too
    listener = {"on": step} if step and "on" in inspect.signature(model.fit).parameters else {}
    forecaster = model.fit(train, val, fitting.dims, **listener)

    def explain() -> dict[str, Any]:
        return {"importance": weights} if (weights := forecaster.importance()) else {}

    return Fitted(forecaster, explain=explain, chosen=forecaster.chosen)


@fit.register
def _(model: Ensemble, train: Windows, val: Windows, fitting: Fitting) -> Fitted:
    from tsforecast.training.ensemble import fit_ensemble  # which fits the members by this very verb

    return fit_ensemble(model, train, val, fitting)
