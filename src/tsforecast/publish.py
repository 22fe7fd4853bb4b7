"""`python -m tsforecast.publish BUNDLE`: make a bundle a version in the registry, or one to serve. Try `--help`."""

from __future__ import annotations

import shlex

from omegaconf import DictConfig

from tsforecast.config.closing import promoting, serving
from tsforecast.config.command import command
from tsforecast.config.job import show


def main(cfg: DictConfig) -> None:
    """Publish the bundle, and print what serves it."""
    bundle, to, name, alias = cfg.bundle, cfg.to, cfg.name, cfg.alias

    from tsforecast.registry import Registry, meant

    registry = Registry()
    exact = registry.publish(registry.resolve(bundle).path, to=to, name=name, alias=alias)
    place = f"the registry, as {meant('alias', alias) or 'its number alone'}"
    place = "the Bento model store, as the newest" if to == "bento" else place
    served = serving(shlex.quote(exact))
    steps = [served] if to == "bento" else [promoting(exact), served]
    show("\n  ".join([f"{exact} is in {place}\n\nNext", *steps]))


if __name__ == "__main__":
    command(main, "publish")
