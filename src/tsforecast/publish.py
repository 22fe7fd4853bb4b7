"""`python -m tsforecast.publish BUNDLE`: make a bundle a version in the registry, or one to serve. Try `--help`."""

from __future__ import annotations

import shlex

from omegaconf import DictConfig

from tsforecast.config.closing import promoting, serving
from tsforecast.config.command import command
from tsforecast.config.job import show


def main(cfg: DictConfig) -> None:
    """Publish the bundle, and print what serves it."""
    from tsforecast.registry import Registry, meant

    registry = Registry()
    exact = registry.publish(registry.resolve(cfg.bundle).path, to=cfg.to, name=cfg.name, alias=cfg.alias)
    place, steps = "the Bento model store, as the newest", [serving(shlex.quote(exact))]
    if cfg.to == "mlflow":
        place = f"the registry, as {meant('alias', cfg.alias) or 'its number alone'}"
        steps.insert(0, promoting(exact))
    show("\n  ".join([f"{exact} is in {place}\n\nNext", *steps]))


if __name__ == "__main__":
    command(main, "publish")
