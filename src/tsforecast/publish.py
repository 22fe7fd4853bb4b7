"""`python -m tsforecast.publish bundle=PATH`: put a bundle into the Bento model store, to serve it. Try `--help`."""

from __future__ import annotations

from omegaconf import DictConfig

from tsforecast.config.closing import serving
from tsforecast.config.command import command
from tsforecast.config.job import show


def main(cfg: DictConfig) -> None:
    """Copy the bundle in as the newest of its name, and print what serves it."""
    bundle_path = cfg.bundle

    from pathlib import Path

    from tsforecast.serving.store import BentoStore

    tag = BentoStore().publish(Path(bundle_path), cfg.name)
    show(f"{tag} is in the Bento model store, as the newest\n\nNext\n  {serving(tag)}")


if __name__ == "__main__":
    command(main, "publish")
