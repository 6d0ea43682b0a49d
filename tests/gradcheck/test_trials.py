"""No false alarm and no missed defect: a part of the trials that tools/gradcheck_trials.py runs in full."""

import numpy as np
import pytest
from tests.gradcheck.defects import KINDS, diagnosis
from tests.gradcheck.layers import LAYERS, blame
from tests.gradcheck.oddities import oddities

from windrow.gradcheck import check


@pytest.mark.parametrize("layer", range(len(LAYERS)), ids=[maker.__name__ for maker in LAYERS])
def test_right_layers_are_not_blamed(layer):
    for seed in range(layer, 8 * len(LAYERS), len(LAYERS)):
        assert blame(seed) == ""


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[maker.__name__ for maker in KINDS])
def test_planted_defects_are_caught_and_named(kind):
    # Of one entry among 1e5 two, since each takes seconds.
    count = 2 if KINDS[kind].__name__ == "entry" else 4
    for seed in range(kind, count * len(KINDS), len(KINDS)):
        assert diagnosis(seed) == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_awkward_functions_are_not_blamed(dtype):
    for case in oddities(0, dtype):
        report = check(case.forward, case.backward, case.inputs)
        assert report, f"{case.name}\n{report}"
