"""How many examples a generated test has: WINDROW_EXAMPLES, or else a number of its own."""

import os

from hypothesis import HealthCheck, settings

from tests.kernels import TARGETS


def number(usual: int) -> int:
    return int(os.environ.get("WINDROW_EXAMPLES", usual))


def per_target(usual: int) -> settings:
    """For a test that runs on each target: on three of them as many in all as on two."""
    return settings(
        max_examples=max(1, number(usual) * 2 // max(2, len(TARGETS))),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
