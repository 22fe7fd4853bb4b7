"""One way for every command to start, to be called, to help and to fail: a message, a non-zero exit, no traceback."""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import hydra
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from tsforecast.config import recorded
from tsforecast.config.compose import build, check_keys, compose, explain, folders, groups, options, spelled
from tsforecast.config.job import Job, limit_threads, show
from tsforecast.config.roots import CONF_DIR, WORDS, keys_of
from tsforecast.files import Place

FLAGS = {"--dry-run": "backtest.dry_run=true", "--force": "force=true", "--json": "json=true"}


def help_text(command: str) -> str:
    """What can be chosen, and the command's own file; composing it would take three times as long."""
    root = (CONF_DIR / f"{command}.yaml").read_text(encoding="utf-8")
    lines = [
        textwrap.fill(f"  {group + ':':<16}{', '.join(options(group))}", 118, subsequent_indent=" " * 18)
        for group in groups()
        if options(group) and (command in ("train", "backtest", "doctor") or f"- {group}:" in root)
    ]
    return "\n".join(
        [
            f"tsforecast {command}: key=value changes a key, group=option picks one of a group\n",
            "Groups (feature takes a list: feature=[calendar,lags]; +experiment, +hparams_search and +debug are added)",
            *lines,
            f"\nExamples, the keys and their defaults\n{textwrap.indent(root, '  ')}",
            "--cfg job shows the composed configuration, --info the search path and defaults, --hydra-help Hydra's own",
            "options, --trace the traceback of an error.",
        ]
    )


def command(task: Callable[..., Any], config_name: str) -> None:
    """Run a command under Hydra; errors become one message and a non-zero exit.

    `--trace` or `HYDRA_FULL_ERROR=1` shows the traceback. Exit codes: 1 an error, 2 a usage error, 130 interrupted.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):
        show(help_text(config_name))
        return
    gc.set_threshold(200_000)  # what imports make, hundreds of thousands of objects, lives to the end: do not search it
    atexit.register(gc.freeze)  # nor when Python ends, which frees the memory anyway: a second, once mlflow is there
    trace = "--trace" in sys.argv or os.environ.get("HYDRA_FULL_ERROR") == "1"
    words = [FLAGS.get(each, each) for each in sys.argv[1:] if each != "--trace"]
    keys_of(config_name)
    if keys := WORDS.get(config_name):
        said = any(each.startswith(f"{keys[0]}=") for each in words)
        words = _named(words, keys[-1 if said else 0])
    # Options first, in the order given: argparse reads key=value up to the next option and not after it.
    sys.argv[1:] = sorted(spelled(config_name, words), key=_is_override)
    overrides = [each for each in sys.argv[1:] if _is_override(each)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing and exiting
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def checked(cfg: DictConfig, **how: Any) -> Any:
        check_keys(cfg, config_name)
        dict(cfg)  # a missing key is said before anything is imported
        limit_threads(cfg.get("threads", 1))
        return task(cfg, **how)

    try:
        if config_name == "train" and (run := recorded.asked(sys.argv[1:])):
            job = recorded.going_on(run)
            recorded.introduce(job)
            checked(job.cfg, job=job)
            return
        if not any(each.startswith(("--config-dir", "-cd")) for each in sys.argv):
            sys.argv += [f"--config-dir={root}" for root in folders()[1:]]
        with nullcontext() if _may_choose_mode(sys.argv[1:]) else patch.object(Hydra, "get_mode", return_value=None):
            hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(checked)()
    except KeyboardInterrupt:
        message, status = "Interrupted.", 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if trace:
            raise
        told = explain(error, config_name, overrides)
        if FLAGS["--json"] in overrides:  # whatever goes wrong, a machine reads one document
            show(json.dumps({"ok": False, "error": {"what": told.what, **told.parts}}))
        message, status = f"Error: {told}", 1
    else:
        return
    sys.stderr.write(message + "\n")
    raise SystemExit(status)


def called(
    command: str, overrides: Sequence[str], data: Any, dataset: Mapping[str, Any], out: Place | None = None
) -> Job:
    """What is to be run.

    Parameters
    ----------
    data
        A frame in memory in place of a file.
    dataset
        Keys of `dataset`.
    out
        The directory of the run.
    """
    place = None if out is None else Path(out)
    if command == "train" and (run := recorded.asked(overrides, *dataset, *["out"] * (place is not None))):
        job = recorded.going_on(run)
    else:
        if data is not None:
            given = any(each.startswith("dataset=") for each in overrides)
            overrides = (*["dataset=wide"] * (not given), "dataset.path=memory", *overrides)
        job = Job(*compose(command, overrides), overrides, place)
    for key, value in dataset.items():
        OmegaConf.update(job.cfg, f"dataset.{key}", value, force_add=True)  # its constructor says which keys there are
    limit_threads(job.cfg.threads)
    if data is None:
        return job
    from tsforecast.data.sources import FrameSource

    return replace(job, source=FrameSource(data, build(job.cfg.dataset).schema))


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Make a command's module callable: once it is imported, `tsf.train` is the module, and to call it is to train."""

    class Command(ModuleType):
        __call__ = staticmethod(function)

    sys.modules[name].__class__ = Command


def _may_choose_mode(arguments: list[str]) -> bool:
    """Whether `hydra.mode` may be set: only to learn that, Hydra composes everything once more, a tenth of a second.

    The shipped files do not set it; one of the user's may.
    """
    ways = ("--config", "-c", "hydra.mode", "hydra.searchpath", "hydra=")
    return (CONF_DIR / "local").is_dir() or any(each.lstrip("+~").startswith(ways) for each in arguments)


def _named(words: list[str], key: str) -> list[str]:
    """A word that is no option, no key and not what an option takes is the value of `key`: `check my.csv`."""
    own = [_is_override(word) or word.startswith("-") or last.startswith("-") for last, word in pairwise(["", *words])]
    # As Hydra's grammar reads it: a mark, and what stands before one, behind a backslash: C:\runs\ ends in one.
    quoted = [re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + '\\"' * bool(found[2]), word) for word in words]
    return [word if named else f'{key}="{text}"' for word, text, named in zip(words, quoted, own, strict=True)]


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
