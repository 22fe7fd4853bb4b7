"""One way for every command to start, to help and to fail: a message, a non-zero exit, no traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tsforecast.config.compose import CONF_DIR, check_root, folders, groups, options
from tsforecast.config.job import show
from tsforecast.config.mistakes import explain
from tsforecast.errors import TsforecastError

EXAMPLES = """\
Examples
  python -m tsforecast.train                                  the demo, on bundled data
  python -m tsforecast.train +experiment=etth1                NLinear on ETTh1
  python -m tsforecast.train +experiment=etth1 model=ridge horizon=720
  python -m tsforecast.train -m +experiment=etth1 model=ridge,nlinear horizon=96,192
  python -m tsforecast.train dataset=wide dataset.path=my.csv  your own file
  python -m tsforecast.evaluate bundle=RUN/bundle dataset=etth2 split=ltsf
  python -m tsforecast.predict bundle=RUN/bundle input=x.csv output=y.csv
  python -m tsforecast.publish bundle=RUN/bundle

--cfg job shows the composed configuration, --info the search path and defaults, --hydra-help Hydra's own options,
--trace the traceback of an error."""


def help_text(config_name: str) -> str:
    """Groups, keys and examples; read from the files, a third of the time of composing them."""
    keys = (CONF_DIR / f"{config_name}.yaml").read_text(encoding="utf-8").partition("defaults:\n")[2]
    listed = [group for group in groups() if options(group) and (config_name == "train" or f"- {group}:" in keys)]
    listing = "\n".join(
        textwrap.fill(f"  {group + ':':<13}{', '.join(options(group))}", 118, subsequent_indent=" " * 15)
        for group in listed
    )
    examples = "\n".join(
        line for line in EXAMPLES.splitlines() if "tsforecast." not in line or f".{config_name} " in line
    )
    return (
        f"tsforecast {config_name}: key=value changes a key, group=option picks one of a group\n\n"
        f"Groups (feature takes a list: feature=[calendar,lags]; experiment and debug are added: +experiment=etth1)\n"
        f"{listing}\n\nDefaults, and the keys beside the groups\n{textwrap.indent(keys.rstrip(), '  ')}\n\n{examples}"
    )


def command(task: Callable[[DictConfig], Any], config_name: str) -> None:
    """Run a command under Hydra; errors become one message and a non-zero exit.

    `--trace` or `HYDRA_FULL_ERROR=1` shows the traceback. Exit codes: 1 an error, 2 a usage error, 130 interrupted.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):
        show(help_text(config_name))
        return
    gc.set_threshold(200_000)  # what imports make, hundreds of thousands of objects, lives to the end: do not search it
    trace = "--trace" in sys.argv or os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Options first, in the order given: argparse reads key=value up to the next option and not after it.
    sys.argv[1:] = sorted((each for each in sys.argv[1:] if each != "--trace"), key=_is_override)
    overrides = [each for each in sys.argv[1:] if _is_override(each)]
    if not any(each.startswith(("--config-dir", "-cd")) for each in sys.argv):
        sys.argv += [f"--config-dir={root}" for root in folders()[1:]]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions to us instead of printing and exiting
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = False

    def checked(cfg: DictConfig) -> Any:
        nonlocal running
        check_root(cfg, config_name)
        running = True
        return task(cfg)

    try:
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(checked)()
    except KeyboardInterrupt:
        message, status = "Interrupted.", 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        if trace:
            raise
        message, status = f"Error: {_told(error, config_name, overrides, running)}", 1
    else:
        return
    sys.stderr.write(message + "\n")
    raise SystemExit(status)


def _told(error: Exception, command: str, overrides: list[str], running: bool) -> str:
    """What is printed of an error: ours as it is, others with what can be done about them."""
    if isinstance(error, TsforecastError):
        return str(error)
    if isinstance(error, OSError) and running:
        return (
            f"{error.strerror or error}\n  where:   {error.filename or 'unknown'}\n"
            "  fix:     check the path, its permissions and the free space"
        )
    if isinstance(error, MemoryError):
        return f"memory runs out: {error}\n  fix:     a shorter lookback or horizon, fewer series, a smaller model"
    if running and not isinstance(error, HydraException | OmegaConfBaseException):
        return f"{type(error).__name__}: {error}\n  fix:     run again with --trace to see where it comes from"
    return str(explain(error, command, overrides))


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))
