"""Every file in conf/ and in the user's own: it composes, and what it names can be built."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from tsforecast.checkup.findings import Finding
from tsforecast.config.compose import CONF_DIR, build, composing, explain, folders, groups, options
from tsforecast.config.roots import ROOTS
from tsforecast.errors import TsforecastError, listed

WITHIN = ("model/optimizer",)  # groups within an option of another
SEARCH = "hydra/sweeper=optuna"  # whose keys a sampler may refer to
ABOUT = ("dataset", "split", "feature", "scaler", "model", "calibration", "evaluation")  # what an experiment is about
Named = tuple[str, str]  # a group and an option of it
Composed = Callable[[str, Sequence[str]], DictConfig]


@dataclass
class Configurations:
    """What every file came to, by `group/option` or, of a command, its name.

    Attributes
    ----------
    built
        The objects, None where a file asks for more.
    faults
        What is wrong.
    """

    paths: DictConfig
    built: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, TsforecastError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with composing() as composed, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for command in ROOTS:
                self._note(command, composed, command, [])
            chosen = [group for group in (*groups(), *WITHIN) if group != "local"]  # which is in every composition
            named = [(group, option) for group in chosen for option in options(group)]
            wide = [each for each in named if _changes_all(*each)]
            for (group, option), cfg in self._composed(composed, [each for each in named if each not in wide]):
                self._note(f"{group}/{option}", _build, cfg.callbacks[_key(group, option)])
            for group, option in wide:
                self._note(f"{group}/{option}", _experiment, composed, f"+{group}={option}")

    def _note(self, file: str, action: Callable[..., Any], *args: Any) -> None:
        try:
            self.built[file] = action(*args)
        except Exception as error:  # of YAML, of Hydra, of whatever class a file names
            self.faults[file] = explain(error, "train", [])

    def _composed(self, composed: Composed, named: list[Named]) -> Iterator[tuple[Named, DictConfig]]:
        """All at once, beside the callbacks: one after the other takes ten seconds. Halves, where one is at fault."""
        words = [f"+{group}@callbacks.{_key(group, option)}={option}" for group, option in named]
        fault = None
        try:
            cfg = composed("train", [SEARCH, *words])
        except TsforecastError as error:
            fault = error
        if fault is None:
            cfg.paths = self.paths
            yield from ((each, cfg) for each in named)
        elif len(named) == 1:
            self.faults["/".join(named[0])] = fault
        else:
            for half in (named[: len(named) // 2], named[len(named) // 2 :]):
                yield from self._composed(composed, half)

    def findings(self) -> Iterator[Finding]:
        """Each file that does not compose or cannot be built, and how many do."""
        part, total = "Configurations", len(self.built) + len(self.faults)
        yield Finding(part, "files", f"{len(self.built)} of {total} compose and build, in {listed(folders())}")
        for file, error in self.faults.items():
            group, _, option = file.rpartition("/")
            place = next(root / f"{file}.yaml" for root in reversed(folders()) if (root / f"{file}.yaml").is_file())
            found = Finding.of(part, file, error)
            text, fix = (
                str(each).replace(f"callbacks.{_key(group, option)}", group) for each in (found.text, error.fix)
            )
            hint = f": {fix}" if error.fix and not fix.startswith("--") else ""
            needs = CONF_DIR in place.parents and re.search("not installed|No module named", text)  # it is spelt right
            yield replace(found, text=text, fix=f"mend {place}{hint}", level="absent" if needs else "fix")


def _changes_all(group: str, option: str) -> bool:
    files = [root / group / f"{option}.yaml" for root in folders()]
    return any(file.is_file() and "# @package _global_" in file.read_text(encoding="utf-8") for file in files)


def _experiment(composed: Composed, word: str) -> None:
    cfg = composed("train", [word])
    for group in ABOUT:
        _build(cfg[group])


def _key(group: str, option: str) -> str:
    return f"{group.replace('/', '-')}-{option}"


def _build(node: Any) -> Any:
    """A node built; where it asks for more, its class is to know the keys that it has."""
    if not isinstance(node, DictConfig):
        return None
    if not OmegaConf.missing_keys(node):
        return build(node)
    keys = {str(name): None for name in node if not str(name).startswith("_")}
    inspect.signature(get_object(node._target_)).bind_partial(**keys)
    return None
