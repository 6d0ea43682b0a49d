"""scikit-learn's patch functions on windrow: the same signatures, the same patches, in compiled loops.

>>> import numpy as np
>>> from windrow.sklearn import extract_patches_2d, reconstruct_from_patches_2d
>>> image = np.arange(16.0).reshape(4, 4)
>>> patches = extract_patches_2d(image, (2, 2))
>>> patches.shape
(9, 2, 2)
>>> np.array_equal(reconstruct_from_patches_2d(patches, (4, 4)), image)
True

Needs scikit-learn (``pip install 'windrow[sklearn]'``).
"""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.feature_extraction import image as _theirs
from sklearn.utils import check_array, check_random_state

from .arguments import show
from .arrays import Array
from .unfolding import col2im, unfold

__all__ = ["PatchExtractor", "extract_patches_2d", "reconstruct_from_patches_2d"]

_LAYOUT = "(n l) kh kw c"  # a patch per row, channels last as in the image


def extract_patches_2d(
    image: Any, patch_size: Any, *, max_patches: Any = None, random_state: Any = None
) -> Array:
    """All patches of an image, or some drawn at random, as `sklearn.feature_extraction.image` gives them.

    ``patches[i * columns + j] = image[i : i + height, j : j + width]``

    Parameters
    ----------
    image : array (height, width) or (height, width, channels)
    patch_size : (height, width)
    max_patches : int, float between 0 and 1, or None
        How many patches, or which share of them, to draw; the draws are scikit-learn's for a `random_state`.
    random_state : int, RandomState or None

    Returns
    -------
    array (patches, height, width) or (patches, height, width, channels) of image's dtype

    Raises
    ------
    ValueError
        If a patch is larger than the image, or `max_patches` is none of the above.
    """
    image = check_array(image, allow_nd=True)
    size = _pair("patch_size", patch_size)
    for axis, name in enumerate(("height", "width")):
        if size[axis] > image.shape[axis]:
            raise ValueError(
                f"patch_size: expected a {name} of at most the image's {image.shape[axis]}, got {size[axis]}"
            )
    pixels = image.reshape(*image.shape[:2], -1)
    if max_patches is None:
        patches = unfold(pixels.transpose(2, 0, 1)[None], size, layout=_LAYOUT)
    else:
        rows, columns = pixels.shape[0] - size[0] + 1, pixels.shape[1] - size[1] + 1
        count = _count(max_patches, rows * columns)
        rng = check_random_state(random_state)
        at = rng.randint(rows, size=count), rng.randint(columns, size=count)
        patches = sliding_window_view(pixels, size, axis=(0, 1))[at].transpose(0, 2, 3, 1)
        patches = np.ascontiguousarray(patches)
    return patches[..., 0] if patches.shape[-1] == 1 else patches


def reconstruct_from_patches_2d(patches: Any, image_size: Any) -> Array:
    """Average all patches of an image back into the image: ``fold(..., reduce="mean")``.

    Parameters
    ----------
    patches : array (patches, height, width) or (patches, height, width, channels)
        Every patch of the image, in the order of `extract_patches_2d`.
    image_size : (height, width) or (height, width, channels)

    Returns
    -------
    float64 array of shape `image_size`

    Raises
    ------
    ValueError
        If patches and image_size do not go together.
    """
    patches = np.asarray(patches)
    size = tuple(image_size)
    if patches.ndim not in (3, 4) or len(size) not in (2, 3):
        raise ValueError(
            "patches: expected (patches, height, width) or (patches, height, width, channels) for an "
            f"image_size of 2 or 3 values, got {patches.shape} and {show(image_size)}"
        )
    columns = patches.reshape(*patches.shape[:3], -1).astype(np.float64, copy=False)
    channels = size[2] if len(size) == 3 else 1
    folded = col2im(columns, (1, channels, *size[:2]), patches.shape[1:3], layout=_LAYOUT, reduce="mean")
    return np.ascontiguousarray(folded[0].transpose(1, 2, 0)).reshape(size)


class PatchExtractor(_theirs.PatchExtractor):
    """scikit-learn's transformer from images to patches, its parameters and checks, windrow's loops."""

    def transform(self, X: Any) -> Array:
        """Patches of each image of X (images, height, width[, channels]), float64, image after image."""
        if self.patch_size is not None and len(self.patch_size) != 2:
            raise ValueError(
                f"patch_size must be a tuple of two integers. Got {show(self.patch_size)} instead."
            )
        images = check_array(X, allow_nd=True, ensure_2d=False)
        size = self.patch_size or (images.shape[1] // 10, images.shape[2] // 10)
        rng = check_random_state(self.random_state)
        if self.max_patches is None:
            pixels = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2)
            patches = unfold(pixels.astype(np.float64, copy=False), size, layout=_LAYOUT)
            return patches[..., 0] if patches.shape[-1] == 1 else patches
        options = {"max_patches": self.max_patches, "random_state": rng}
        drawn = [extract_patches_2d(image, size, **options) for image in images]
        return np.concatenate(drawn).astype(np.float64, copy=False)


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name}: expected (height, width), got {show(value)}")
    return int(value[0]), int(value[1])


def _count(max_patches: Any, available: int) -> int:
    if isinstance(max_patches, Integral):
        if int(max_patches) >= 1:
            return min(int(max_patches), available)
    elif 0 < max_patches < 1:
        return int(max_patches * available)
    raise ValueError(
        f"max_patches: expected an int from 1 up, a float between 0 and 1, or None, got {show(max_patches)}"
    )
