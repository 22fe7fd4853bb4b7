"""The Python API: what `import tsforecast as tsf` offers."""

from __future__ import annotations

import subprocess
import sys

import tsforecast as tsf


def test_what_is_offered_is_listed_and_can_be_had() -> None:
    assert set(tsf.__all__) <= set(dir(tsf))
    for name in tsf.__all__:
        assert getattr(tsf, name) is not None


def test_importing_it_and_listing_it_imports_nothing_else() -> None:
    code = "import sys, tsforecast; dir(tsforecast); assert not {'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
