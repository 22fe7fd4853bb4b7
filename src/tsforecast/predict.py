"""`python -m tsforecast.predict bundle=PATH input=x.csv output=y.csv`: a file in, forecasts out. Try `--help`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import command
from tsforecast.config.job import limit_threads, log_to, show


def main(cfg: DictConfig) -> None:
    """Forecast the steps after the last row of every series of the input file."""
    limit_threads(cfg.threads)
    bundle_path, input_path, output_path = cfg.bundle, cfg.input, cfg.output
    log = log_to(None)

    from dataclasses import replace
    from pathlib import Path

    from tsforecast.bundle.bundle import Bundle
    from tsforecast.data.schema import READING
    from tsforecast.data.sources import read_frame
    from tsforecast.errors import ConfigError
    from tsforecast.files import atomic

    output, picture = Path(output_path), Path(cfg.plot) if cfg.plot else None
    for key, file, kinds in (("output", output, (".csv", ".parquet")), ("plot", picture, (".png", ".svg", ".pdf"))):
        if file and file.suffix not in kinds:
            raise ConfigError("the kind of file is told by its suffix", where=key, got=file.name,
                              allowed=" or ".join(kinds), fix=f"{key}={file.stem}{kinds[0]}")  # fmt: skip
        for given in filter(None, (input_path, cfg.known_future, cfg.static)):
            if file and file.resolve() == Path(given).resolve():
                raise ConfigError(f"the {key} would replace an input", where=key, got=file, fix="name another file")
    if cfg.format not in (None, "wide", "long"):
        raise ConfigError("there is no such format", where="format", got=cfg.format, allowed="wide, long or null")
    levels: Any = OmegaConf.to_container(cfg.levels) if OmegaConf.is_config(cfg.levels) else cfg.levels
    bundle = Bundle.load(bundle_path)
    bundle.asked(cfg.horizon, levels)
    reading = {name: cfg[name] for name in READING if cfg[name] is not None}
    bundle = replace(bundle, schema=replace(bundle.schema, **reading))
    static, future = (read_frame(x, bundle.schema) if x else None for x in (cfg.static, cfg.known_future))
    panel = bundle.panel(read_frame(input_path, bundle.schema), static=static, short=cfg.short, keys="")
    used = panel.tail(bundle.context)
    log.info("Read %d rows of %d series; used the last %d of each, %s to %s.", len(panel.time), len(panel),
             bundle.context, used.time.min(), used.time.max())  # fmt: skip
    forecast = bundle.forecast(used, future, horizon=cfg.horizon, levels=levels, stale=cfg.stale)
    long = cfg.format == "long" or (cfg.format is None and bundle.schema.layout == "long")
    frame = forecast.to_frame() if long else forecast.to_wide(bundle.schema.stamp)
    with atomic(output) as scratch:
        if output.suffix == ".csv":
            frame.to_csv(scratch, index=False)
        else:
            frame.to_parquet(scratch, index=False)
    if picture:
        with atomic(picture) as scratch:
            forecast.plot().savefig(scratch)
    show(f"{len(frame)} rows, {len(forecast.time[0])} steps ahead of {used.time.max()}, written to {output}")


if __name__ == "__main__":
    command(main, "predict")
