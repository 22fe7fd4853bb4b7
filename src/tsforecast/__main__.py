"""`python -m tsforecast VERB ...` and the console script `tsforecast VERB ...`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from tsforecast.errors import nearest

VERBS = {
    "train": "fit, score, save and track one experiment",
    "evaluate": "score a bundle on any dataset",
    "predict": "a file in, forecasts out",
}


def main() -> None:
    """Dispatch to the command; without a verb, list them."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb in VERBS:
        sys.argv = [f"tsforecast {verb}", *sys.argv[2:]]
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that the user's own modules are found
        from tsforecast.command import command

        module = importlib.import_module(f"tsforecast.{verb}")
        command(getattr(module, verb), verb)
        return
    listing = "\n".join(f"  {name:<10}{text}" for name, text in VERBS.items())
    if verb in ("-h", "--help"):
        sys.stdout.write(f"tsforecast VERB [key=value ...]\n\n{listing}\n\ntsforecast VERB --help tells more.\n")
        return
    near = nearest(verb, VERBS)
    hint = f"did you mean {near}?" if near else "tsforecast --help lists them"
    sys.stderr.write(f"Error: there is no command {verb!r}\n  allowed: {', '.join(VERBS)}\n  fix:     {hint}\n")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
