"""The fit that is kept where what was scored is to know the last rows, too."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tsforecast.bundle import golden
from tsforecast.bundle.bundle import Bundle
from tsforecast.data.splits import Borders
from tsforecast.training.calibrate import Errors
from tsforecast.training.fit import Fitting, fit
from tsforecast.training.prepare import Prepared

if TYPE_CHECKING:
    from tsforecast.experiment import Experiment

log = logging.getLogger(__name__)


def on_all_rows(
    experiment: Experiment,
    data: Prepared,
    chosen: Mapping[str, Any],
    errors: Errors | None,
    metadata: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> Bundle:
    """Fit once more, on all rows that there are, with what earlier fits have chosen; calibrated by their `errors`.

    The metadata say up to which row (`chosen_until`), and that the scores are those of earlier fits (`refit`).
    """
    first, end = data.panel.offsets[:-1], data.panel.offsets[1:]
    whole, began = data.fitted_on(Borders(first, end, end, end)), time.perf_counter()
    fitting = Fitting(whole.dims, experiment.trainer, experiment.seed)
    fitted = fit(experiment.model.refitting(chosen), whole.windows("train"), whole.windows("val"), fitting)
    until = str(data.panel.time[end - 1].max())
    refit = {"rows": len(data.panel.time), "chosen": dict(chosen), "scored_until": metadata["chosen_until"]}
    origin = {**origin, "seconds": {**origin.get("seconds", {}), "refit": time.perf_counter() - began}}
    about = {**metadata, "chosen_until": until, "refit": refit}
    bundle = replace(whole.bundle(fitted.forecaster), metadata=about, provenance=origin)
    log.info("fitted once more on all %d rows, up to %s", len(data.panel.time), until)
    return golden.with_golden(experiment.calibrated(bundle, errors, whole), whole.rows("train"))
