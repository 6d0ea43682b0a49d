"""No false alarm and no missed defect: a part of the trials that tools/gradcheck_trials.py runs in full."""

import pytest
from tests.gradcheck.defects import KINDS, diagnosis
from tests.gradcheck.layers import LAYERS, blame


@pytest.mark.parametrize("layer", range(len(LAYERS)), ids=[maker.__name__ for maker in LAYERS])
def test_right_layers_are_not_blamed(layer):
    for seed in range(layer, 8 * len(LAYERS), len(LAYERS)):
        assert blame(seed) == ""


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[maker.__name__ for maker in KINDS])
def test_planted_defects_are_caught_and_named(kind):
    for seed in range(kind, 4 * len(KINDS), len(KINDS)):
        assert diagnosis(seed) == ""
