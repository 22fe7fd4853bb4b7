"""From what a run says of itself to a configuration that may be built here: a record is data, and not trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tsforecast.bundle import directory
from tsforecast.bundle.provenance import FILE, PLACES
from tsforecast.config.compose import check_keys, compose, folders
from tsforecast.errors import BundleError
from tsforecast.training.prepare import stated

LOCAL = ("tracking", "report", "publish", "paths", "name")  # as they are here, whatever a record says of them


def recompose(
    origin: Mapping[str, Any], bundle: Path, given: Mapping[str, Any], overrides: Sequence[str] = ()
) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of `train` that a record holds, and the option chosen in each group.

    Parameters
    ----------
    origin, bundle
        The provenance of a run, and where its bundle lies.
    given
        The keys of `dataset` that are others now, or a `dataset` of its own.
    overrides
        Arguments; those are heeded that are about what is local.

    Raises
    ------
    BundleError
        The record is none of `train`, or names a class, a value or a place that it may not.
    """
    config = origin.get("config") or {}
    if "dataset" not in config or "backtest" in config:
        what, words = "this is no run of train, so it is not repeated", [*origin.get("overrides", ())]
        fix = f"python -m tsforecast.backtest {' '.join(words)}" if "backtest" in config else None
        raise BundleError(what, where=bundle, got="a backtest" if fix else "no configuration", fix=fix)
    local = re.compile(rf"[+~]*({'|'.join(LOCAL)})\b")
    cfg, chosen = compose("train", [each for each in overrides if local.match(each)])
    kept = {key: value for key, value in config.items() if key not in LOCAL}
    if strange := kept.keys() - cfg.keys():
        what, fix = "the run has keys that this version does not know", "install the version that wrote it"
        raise BundleError(what, where=FILE, got=sorted(strange), fix=fix)
    texts = [file.read_text(encoding="utf-8") for root in folders() for file in root.rglob("*.yaml")]
    _check(kept, {target for text in texts for target in re.findall(r"_target_:\s*[\"']?([\w.]+)", text)})
    if "_target_" not in given:
        url = config["dataset"].get("url")
        known = {"url": url} if any(str(url) in text for text in texts) else {}  # a public one, known here too
        given = stated(origin, bundle, "dataset", known | dict(given), cfg.paths.data_dir)
    here: Any = OmegaConf.to_container(cfg)
    cfg = OmegaConf.create({**here, **kept, "dataset": dict(given), "ckpt_path": None}, flags={"struct": True})
    check_keys(cfg, "train")
    return cfg, chosen | origin.get("choices", {})


def _check(config: Mapping[str, Any], named: set[str]) -> None:
    """Raise a BundleError for a class that no local file has `named`, and for what would be looked up when read."""
    for key, text in _strings(config):
        if key.endswith("._target_") and text not in named:
            package = text.partition(".")[0]
            if package in directory.allowed()[1:]:
                continue
            what, allowed = "the run names a class that no file in conf/ names", directory.allowed()[1:] or None
            fix = f"if you trust it, and it is not tsforecast's own: TSFORECAST_ALLOW={package}"
            raise BundleError(what, where=f"{FILE}: {key}", got=text, allowed=allowed, fix=fix)
        if set(re.findall(r"\$\{[^}]*\}?", text)) - {*PLACES}:
            what, fix = "the run names something to look up", "do not trust it"
            raise BundleError(what, where=f"{FILE}: {key}", got=text, allowed=PLACES, fix=fix)


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        yield from _strings(each, f"{key}.{name}")
