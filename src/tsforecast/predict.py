"""`python -m tsforecast.predict bundle=PATH input=x.csv output=y.csv`: a file in, forecasts out. Try `--help`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.config.command import command
from tsforecast.config.job import log_to, show


def main(cfg: DictConfig) -> None:
    """Forecast the steps after the last row of every series of the input file."""
    log = log_to(None)

    from dataclasses import replace
    from pathlib import Path

    from tsforecast.bundle import golden
    from tsforecast.data.schema import READING
    from tsforecast.data.sources import read_frame
    from tsforecast.errors import ConfigError, one_of
    from tsforecast.files import atomic
    from tsforecast.registry import load_bundle

    output, plot = Path(cfg.output), Path(cfg.plot) if cfg.plot else None
    inputs = [Path(each).resolve() for each in (cfg.input, cfg.known_future, cfg.static) if each]
    for key, file, kinds in (("output", output, (".csv", ".parquet")), ("plot", plot, (".png", ".svg", ".pdf"))):
        if file and file.suffix not in kinds:
            what, fix = "the kind of file is told by its suffix", f"{key}={file.stem}{kinds[0]}"
            raise ConfigError(what, where=key, got=file.name, allowed=kinds, fix=fix)
        if file and file.resolve() in inputs:
            raise ConfigError(f"the {key} would replace an input", where=key, got=file, fix="name another file")
    one_of("format", cfg.format or "null", ("wide", "long", "null"))
    levels: Any = OmegaConf.to_container(cfg.levels) if OmegaConf.is_config(cfg.levels) else cfg.levels
    bundle = load_bundle(cfg.bundle)
    bundle.asked(cfg.horizon, levels)
    reading = {name: cfg[name] for name in READING if cfg[name] is not None}
    bundle = replace(bundle, schema=replace(bundle.schema, **reading))
    static, future = (read_frame(x, bundle.schema) if x else None for x in (cfg.static, cfg.known_future))
    frame = read_frame(cfg.input, bundle.schema)
    if cfg.stale != "ignore":
        golden.check_ended(bundle, frame, golden.ENDED, "leave these rows out, or stale=ignore if they are history")
    panel = bundle.panel(frame, static=static, short=cfg.short, keys="")
    used = panel.tail(bundle.context)
    read = "Read %d rows of %d series; used the last %d of each at most, %s to %s."
    log.info(read, len(frame), len(panel), bundle.context, used.time.min(), used.time.max())
    forecast = bundle.forecast(used, future, horizon=cfg.horizon, levels=levels, stale=cfg.stale)
    long = cfg.format == "long" or (cfg.format is None and bundle.schema.layout == "long")
    frame = forecast.to_frame() if long else forecast.to_wide(bundle.schema.stamp)
    write = frame.to_csv if output.suffix == ".csv" else frame.to_parquet
    with atomic(output) as scratch:
        write(scratch, index=False)
    if plot:
        with atomic(plot) as scratch:
            forecast.plot().savefig(scratch)
    show(f"{len(frame)} rows, {forecast.values.shape[1]} steps ahead of {used.time.max()}, written to {output}")


if __name__ == "__main__":
    command(main, "predict")
