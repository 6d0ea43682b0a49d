"""`windrow.keras`: Keras's own tests on our functions, and a saved model, in processes without JAX."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

if find_spec("keras") is None:  # which an import would not tell: its backend may be what is missing
    pytest.skip("Keras is not installed", allow_module_level=True)

from tests.programs import last_error, output, run

import windrow as wr
from windrow import reference

WITHOUT_JAX = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "tensorflow", "torch"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refused())
"""

ENABLED = f"""
{WITHOUT_JAX}
import windrow.keras
windrow.keras.enable()
import keras
import numpy as np
"""

THEIR_TESTS = f"""
{WITHOUT_JAX}
import functools
import os
import pytest
import windrow.keras

os.chdir(os.environ["KERAS_HOME"])  # away from the settings of our tests

ran = dict.fromkeys(name for name in windrow.keras.__all__ if name != "enable")

def counted(name):
    function, ran[name] = getattr(windrow.keras, name), 0
    @functools.wraps(function)
    def call(*arguments, **options):
        ran[name] += 1
        return function(*arguments, **options)
    return call

for name in ran:
    setattr(windrow.keras, name, counted(name))
windrow.keras.enable()

class Training:
    "Their tests that train are marked; the NumPy backend cannot."

    def pytest_configure(self, config):
        config.addinivalue_line("markers", "requires_trainable_backend: trains")

    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if not item.get_closest_marker("requires_trainable_backend")]

class Counter:
    passed = 0

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed

counter = Counter()
modules = ["keras.src.ops.nn_test", "keras.src.layers.convolutional", "keras.src.layers.pooling"]
# Keras may lie below our own folder: nothing of ours is read from there.
options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", os.getcwd(), "--noconftest"]
options += ["-W", "ignore", "-k", "conv or pool"]
status = pytest.main([*options, "--pyargs", *modules], plugins=[Training(), counter])
print()
print(int(status), counter.passed, min(ran.values()))
"""


THEIRS = Path(find_spec("keras").origin).parent / "src"


@pytest.mark.skipif(not (THEIRS / "ops" / "nn_test.py").exists(), reason="this Keras comes without its tests")
def test_their_tests(tmp_path):
    done = run(THEIR_TESTS, timeout=300, KERAS_BACKEND=None, KERAS_HOME=str(tmp_path))
    status, passed, least_calls = map(int, done.stdout.split()[-3:])
    assert status == 0, done.stdout
    assert passed >= 400
    assert least_calls >= 40


SAVE = f"""
{ENABLED}
layers = keras.layers
model = keras.Sequential([
    keras.Input((12, 11, 3)),
    layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
    layers.SeparableConv2D(6, 3, depth_multiplier=2, padding="same"),
    layers.MaxPooling2D(2, padding="same"),
    layers.Conv2DTranspose(2, 3, strides=2, padding="same"),
    layers.AveragePooling2D(2, strides=1),
])
rng = np.random.default_rng(0)
model.set_weights([rng.integers(-2, 3, w.shape).astype("f") for w in model.get_weights()])
model.save(sys.argv[1] + "/model.keras")
np.savez(sys.argv[1] + "/weights.npz", *model.get_weights())
"""

PREDICT = f"""
{ENABLED}
model = keras.saving.load_model(sys.argv[1] + "/model.keras")
x = np.load(sys.argv[1] + "/x.npy")
np.save(sys.argv[1] + "/y.npy", model.predict(x, verbose=0))
assert not any(name.split(".")[0] == "jax" for name in sys.modules)
"""


def _in(folder, source):
    return source.replace("sys.argv[1]", repr(str(folder)))


def test_a_saved_model_predicts_without_jax(tmp_path):
    """Of integers, so that every sum is exact and the specification's result is the only one."""
    environment = {"KERAS_BACKEND": None, "KERAS_HOME": str(tmp_path), "WINDROW_ALGORITHM": "direct"}
    x = np.random.default_rng(1).integers(-3, 4, (5, 12, 11, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert output(_in(tmp_path, SAVE), **environment) == ""
    assert output(_in(tmp_path, PREDICT), **environment) == ""
    w = [weights for _, weights in sorted(np.load(tmp_path / "weights.npz").items(), key=_number)]
    first = np.moveaxis(w[0], (-1, -2), (0, 1))
    y = np.maximum(reference.conv(np.moveaxis(x, -1, 1), first, w[1], stride=2, padding="same"), 0)
    depthwise = np.moveaxis(w[2].reshape(3, 3, 8), -1, 0)[:, None]
    y = reference.conv(y, depthwise, padding="same", groups=4)
    y = reference.conv(y, np.moveaxis(w[3], (-1, -2), (0, 1)), w[4])
    y = reference.max_pool_with_indices(y, 2, stride=2, padding="same")[0]
    spread = np.moveaxis(w[5], (-1, -2), (0, 1))
    y = reference.conv_transpose(y, spread, w[6], stride=2, padding=((0, 1), (0, 1)))
    y = reference.avg_pool(y, 2, stride=1)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.moveaxis(y, 1, -1), strict=True)


def _number(item):
    return int(item[0].removeprefix("arr_"))


def test_it_must_be_keras_with_its_numpy_backend():
    text = "RuntimeError: KERAS_BACKEND: expected 'numpy', whose convolutions windrow replaces, got 'jax'"
    source = "import windrow.keras; windrow.keras.enable()"
    assert last_error(source, KERAS_BACKEND="jax") == text


@pytest.fixture(scope="module")
def ours():
    """This process's Keras gets the NumPy backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "numpy")
        import windrow.keras  # noqa: PLC0415

        windrow.keras.enable()
        yield windrow.keras


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_narrow_floats_are_rounded_once(ours, name):
    dtype = np.dtype(name if name == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 7, 6, 4)).astype(dtype), rng.standard_normal((3, 2, 2, 6)).astype(dtype)
    y = ours.conv(x, w, strides=(2, 1), padding="same", dilation_rate=(1, 2))
    wide = wr.conv(
        np.moveaxis(x, -1, 1).astype(np.float32),
        np.moveaxis(w, (-1, -2), (0, 1)).astype(np.float32),
        stride=(2, 1), padding="same", dilation=(1, 2), groups=2,
    )  # fmt: skip
    np.testing.assert_array_equal(y, np.moveaxis(wide, 1, -1).astype(dtype), strict=True)
    assert ours.max_pool(x, 2).dtype == ours.average_pool(x, 2).dtype == dtype


def test_transforms_that_stand_in_for_those_of_jax(ours):
    import keras  # noqa: PLC0415

    real, imaginary = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    for theirs, wanted in ((keras.ops.fft, np.fft.fft), (keras.ops.fft2, np.fft.fft2)):
        parts = theirs((real, imaginary))
        whole = wanted(real + 1j * imaginary)
        np.testing.assert_array_equal(parts[0], whole.real.astype(np.float32), strict=True)
        np.testing.assert_array_equal(parts[1], whole.imag.astype(np.float32), strict=True)


IMAGES = np.ones((1, 5, 5, 4), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda ours: ours.conv(IMAGES, np.ones((2, 2, 4, 1), np.float32), padding="causal"),
            ValueError,
            "padding: expected 'valid' or 'same', got 'causal'",
        ),
        (
            lambda ours: ours.max_pool(IMAGES.astype(np.int32), 2),
            TypeError,
            "inputs: expected float16, bfloat16, float32 or float64, got int32",
        ),
        (
            lambda ours: ours.depthwise_conv(IMAGES, np.ones((2, 2, 3, 1), np.float32)),
            ValueError,
            "kernel: expected 4 channels, as the inputs have, got 3: (2, 2, 3, 1)",
        ),
        (
            lambda ours: ours.conv(IMAGES, np.ones((2, 2, 3, 1), np.float32)),
            ValueError,
            "kernel: expected a divisor of the inputs' 4 channels, got 3: (2, 2, 3, 1)",
        ),
    ],
)
def test_errors(ours, call, error, text):
    with pytest.raises(error) as caught:
        call(ours)
    assert str(caught.value) == text
