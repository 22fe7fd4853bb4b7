"""What is varied: Hydra's sweep grammar as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from tsforecast.errors import ConfigError, one_of

TOOLS = ("sampler", "pruner")  # groups that are of the search and not of a trial


@dataclass(frozen=True)
class Dimension:
    """One key of the space.

    Attributes
    ----------
    kind
        `categorical`, `int` or `float`.
    bounds
        `choices` as they are typed on a command line, or `low`, `high` (both included), `step` and `log`.
    """

    kind: str
    bounds: Mapping[str, Any]

    def draw(self, trial: Any, key: str) -> Any:
        """What the sampler of a trial suggests."""
        return getattr(trial, f"suggest_{self.kind}")(key, **self.bounds)

    @classmethod
    def of(cls, override: Override) -> Dimension:
        """The dimension that a sweep describes.

        Raises
        ------
        ConfigError
            An unknown tag, no value at all, or a log scale that has steps or reaches zero.
        """
        key, sweep = override.get_key_element(), cast(Any, override.value())
        tags: set[str] = getattr(sweep, "tags", set())
        for tag in tags:
            one_of(f"the tag of {key}", tag, ["log"])
        if override.is_choice_sweep():
            choices = list(dict.fromkeys(override.sweep_string_iterator()))
            return cls("categorical", {"choices": choices})
        if override.is_range_sweep():
            values = list(override.sweep_iterator())
            low, high, step = min(values, default=1), max(values, default=0), abs(sweep.step)
        else:
            low, high, step = sweep.start, sweep.end, None
        if low > high or (tags and (low <= 0 or step not in (None, 1))):
            what, allowed = "there is nothing to choose from", "low <= high; with log 0 < low, and no steps"
            raise ConfigError(what, where=key, got=override.input_line, allowed=allowed)
        steps = {} if step is None or tags else {"step": step}
        integers = all(isinstance(each, int) for each in (low, high, *steps.values()))
        return cls("int" if integers else "float", {"low": low, "high": high, "log": bool(tags), **steps})


def parsed(
    params: Mapping[str, Any], arguments: Sequence[str], loader: ConfigLoader | None = None
) -> tuple[tuple[str, ...], dict[str, Dimension]]:
    """The arguments that stay as they are, and the space by key; `arguments` win over `params`.

    Raises
    ------
    ConfigError
        A value is not in Hydra's grammar, or nothing is varied.
    """
    parser = OverridesParser.create(config_loader=loader)
    lines = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    try:
        last = {each.key_or_group: each for each in parser.parse_overrides(lines)}
    except OverrideParseException as error:
        fix = "choice(a,b), range(1,9), interval(0.1,1), int(interval(1,9)), tag(log, interval(0.001,1))"
        what, got = "this is not Hydra's grammar", f"{error.override}: {str(error).partition(': ')[2] or error}"
        raise ConfigError(what, where="hydra.sweeper.params", got=got, fix=fix) from error
    varied = [each for each in last.values() if each.is_sweep_override()]
    space = {each.get_key_element(): Dimension.of(each) for each in varied}
    fixed = tuple(str(last[key].input_line) for key in last if last[key] not in varied and key not in TOOLS)
    if not space:
        given = ", ".join(str(each.input_line) for each in last.values() if each.key_or_group in params)
        fix = "vary a key, such as lookback='range(12,49,12)'" + ", or add +hparams_search=..." * (not params)
        raise ConfigError("nothing is to be varied", where="hydra.sweeper.params", got=given or None, fix=fix)
    return fixed, space


def value(text: Any) -> Any:
    """The value of one choice, which is kept as it is typed."""
    return OverridesParser.create().parse_override(f"key={text}").value() if isinstance(text, str) else text
