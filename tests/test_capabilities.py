"""The table of capabilities agrees with what is measured."""

import pytest

from tests import capabilities


@pytest.mark.parametrize(
    "column", [*capabilities.QUICK, *(pytest.param(column, marks=pytest.mark.slow) for column in capabilities.SLOW)]
)
def test_the_table_is_what_is_measured(column):
    assert capabilities.measure(column) == capabilities.committed(column), "write it anew: python -m tests.capabilities"
