"""What every error says, and the checks that constructors share."""

from __future__ import annotations

import pytest

from tests.errors import refused
from tsforecast.errors import ConfigError, count


@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_a_count_that_is_no_positive_whole_number_is_refused(value: object) -> None:
    with refused(ConfigError, where="horizon", allowed="1, 2, ..."):
        count("horizon", value)
