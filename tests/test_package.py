"""The Python API: what `import tsforecast as tsf` offers."""

from __future__ import annotations

import tsforecast as tsf


def test_what_is_offered_is_listed_and_can_be_had() -> None:
    assert set(tsf.__all__) <= set(dir(tsf))
    for name in tsf.__all__:
        assert getattr(tsf, name) is not None
