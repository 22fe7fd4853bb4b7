"""`python -m tsforecast VERB ...` and the console script `tsforecast VERB ...`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path

from tsforecast.errors import ConfigError, nearest

VERBS = {
    "doctor": "what is wrong here, or with an experiment, before it is run",
    "check": "what a file holds, and the words that train on it",
    "train": "fit, score, save and track one experiment",
    "backtest": "cross-validate models over time",
    "evaluate": "score a bundle on any dataset",
    "leaderboard": "compare runs",
    "predict": "a file in, forecasts out",
    "promote": "let a better version take the place of the champion, or not, and say why",
    "publish": "make a bundle a version in the registry, or one to serve",
    "rerun": "repeat a run, and say whether scores and weights agree",
    "sync": "upload what an MLflow store lacks of runs that it was away from",
}


def _completed(words: list[str]) -> list[str]:
    """The words for the verb on the line a shell wants completed: it asks `tsforecast -sc query=bash` whatever that is.

    Hydra completes what follows the verb; the verb itself is completed here.
    """
    options = [word for word in words if word not in VERBS]
    if not any(word.startswith("query=") for word in options):
        return ["train", *options]  # install and uninstall are of the program
    typed = re.split(r"\s+", os.environ.get("COMP_LINE", "").lstrip(), maxsplit=2)
    if len(typed) < 3:
        sys.stdout.write("\n".join(VERBS) + "\n")
        raise SystemExit(0)
    os.environ["COMP_LINE"] = f"tsforecast {typed[2]}"
    return [typed[1], *options]


def main() -> None:
    """Dispatch to the command; without a verb, list them."""
    words = sys.argv[1:] or ["--help"]
    completes = "-sc" in words or "--shell-completion" in words
    if completes:
        words = _completed(words)
    verb = words[0]
    if verb in VERBS:
        sys.argv = ["tsforecast" if completes else f"tsforecast {verb}", *words[1:]]
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that the user's own modules are found
        from tsforecast.config.command import command

        module = importlib.import_module(f"tsforecast.{verb}")
        command(module.main, verb)
        return
    listing = "\n".join(f"  {name:<13}{text}" for name, text in VERBS.items())
    if verb in ("-h", "--help"):
        sys.stdout.write(f"tsforecast VERB [key=value ...]\n\n{listing}\n\ntsforecast VERB --help tells more.\n")
        return
    fix = f"did you mean {near}?" if (near := nearest(verb, VERBS)) else "tsforecast --help lists them"
    error = ConfigError(f"there is no command {verb!r}", allowed=list(VERBS), fix=fix)
    sys.stderr.write(f"Error: {error}\n")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
