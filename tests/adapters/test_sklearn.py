"""`windrow.sklearn`: scikit-learn's own image tests on our functions, and ours against theirs."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_sample_image
from sklearn.feature_extraction import image as theirs

from windrow import sklearn as ours

NAMES = ("extract_patches_2d", "reconstruct_from_patches_2d", "PatchExtractor")


def _own_tests():
    """A copy of scikit-learn's test module in which our functions stand for its."""
    spec = importlib.util.find_spec("sklearn.feature_extraction.tests.test_image")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in NAMES:
        assert getattr(module, name) is getattr(theirs, name)
        setattr(module, name, getattr(ours, name))
    return module


_module = _own_tests()
_patch_tests = {
    name: value
    for name, value in vars(_module).items()
    if name.startswith("test_") and set(value.__code__.co_names) & set(NAMES)
}
globals().update(_patch_tests)
for _fixture in ("downsampled_face", "orange_face", "downsampled_face_collection"):
    globals()[_fixture] = getattr(_module, _fixture)


@pytest.fixture(scope="session")
def raccoon_face_fxt():
    """Their photograph is downloaded; this one is in their wheel, mirrored to the same size of 768 x 1024."""
    photo = load_sample_image("china.jpg")[..., 0].astype(np.float64)
    return np.pad(photo, ((0, 768 - photo.shape[0]), (0, 1024 - photo.shape[1])), mode="reflect")


@pytest.fixture
def global_random_seed():
    return 42


def test_their_tests_are_found():
    assert len(_patch_tests) >= 14


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_same_patches_and_same_draws(shape, dtype):
    image = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    for options in ({}, {"max_patches": 5, "random_state": 1}, {"max_patches": 0.3, "random_state": 1}):
        mine = ours.extract_patches_2d(image, (4, 3), **options)
        wanted = theirs.extract_patches_2d(image, (4, 3), **options)
        np.testing.assert_array_equal(mine, wanted, strict=True)
    patches = theirs.extract_patches_2d(image, (4, 3))
    back = ours.reconstruct_from_patches_2d(patches, shape)
    assert back.dtype == np.float64
    # A mean of up to 12 equal values: within count * eps (docs of `windrow.fold`).
    np.testing.assert_allclose(back, image, rtol=12 * np.finfo(np.float64).eps)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ours.extract_patches_2d(np.ones((4, 4)), (5, 2)),
            "patch_size: expected a height of at most the image's 4, got 5",
        ),
        (
            lambda: ours.extract_patches_2d(np.ones((4, 4)), (2, 2, 2)),
            "patch_size: expected (height, width), got (2, 2, 2)",
        ),
        (
            lambda: ours.extract_patches_2d(np.ones((4, 4)), (2, 2), max_patches=2.0),
            "max_patches: expected an int from 1 up, a float between 0 and 1, or None, got 2.0",
        ),
        (
            lambda: ours.reconstruct_from_patches_2d(np.ones((4, 4)), (4, 4)),
            "patches: expected (patches, height, width) or (patches, height, width, channels) for an "
            "image_size of 2 or 3 values, got (4, 4) and (4, 4)",
        ),
    ],
)
def test_errors(call, text):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == text
