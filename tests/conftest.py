import hypothesis
import pytest

from tests.kernels import TARGETS
from windrow import _core

hypothesis.settings.register_profile("windrow", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("windrow")


@pytest.fixture(params=TARGETS)
def target(request):
    """Each target with kernels of its own that this machine can run, in turn."""
    before = _core.target()
    _core.set_target(request.param)
    yield request.param
    _core.set_target(before)
