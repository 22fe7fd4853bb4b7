"""Files that appear whole or not at all, and their locks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsforecast.errors import OutputError

Place = str | os.PathLike[str]  # of a file or a folder, as people give it


class BusyError(OutputError):
    """Another process is at work there."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`; move it into place when the block ends well, remove it when not.

    Raises
    ------
    OutputError
        The file cannot be written: no permission, no space, no such place.
    """
    scratch = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield scratch
        with scratch.open("rb") as handle:
            os.fsync(handle.fileno())
        scratch.replace(path)
    except OSError as error:
        got, fix = error.strerror or error, "check permissions and free space"
        raise OutputError("the file cannot be written", where=path, got=got, fix=fix) from error
    finally:
        if scratch.exists():
            scratch.unlink()


def write(path: Path, content: str | bytes) -> None:
    """A file with this content, text in UTF-8; raises as `atomic` does."""
    with atomic(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def strict(value: Any) -> Any:
    """A value with null for what JSON has no number for, however deep it lies."""
    if isinstance(value, Mapping):
        return {str(key): strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What a nested mapping holds, by dotted names; an empty one is a value."""
    for key, each in value.items():
        nested = isinstance(each, Mapping) and each
        yield from flat(each, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", each)]


def lock(file: Any) -> bool | None:
    """Take the lock of an open file, which ends with this process; False: another has it, None: there are no locks."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
