"""What a refusal says, by its parts: how it is worded is shown in tests/e2e/test_messages.py alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tsforecast.errors import TsforecastError


class has:  # noqa: N801 (it reads as a verb)
    """Equal to everything whose text holds these words."""

    def __init__(self, *words: object) -> None:
        self.words = [str(word) for word in words]

    def __eq__(self, other: object) -> bool:
        return all(word in str(other) for word in self.words)

    def __hash__(self) -> int:
        return hash(tuple(self.words))

    def __repr__(self) -> str:
        return f"has{tuple(self.words)}"


def has_parts(error: TsforecastError, **parts: object) -> bool:
    """Whether the error's parts are these, of `code`, `what`, `where`, `got`, `allowed`, `fix`; a path by its text."""
    for name, expected in parts.items():
        found = getattr(error, name)
        found, expected = (str(each) if isinstance(each, Path) else each for each in (found, expected))
        assert found == expected, f"{name}: {found!r} is not {expected!r}"
    return True


@contextmanager
def refused(kind: type[TsforecastError], **parts: object) -> Iterator[pytest.ExceptionInfo]:
    """`pytest.raises` exactly this kind of error with these parts."""
    with pytest.raises(kind) as caught:
        yield caught
    assert caught.type is kind
    assert has_parts(caught.value, **parts)
