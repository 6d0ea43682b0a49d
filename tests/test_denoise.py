"""The denoising example: less noise in a real photo, nothing lost where there was none."""

import numpy as np
import pytest

from windrow import cli

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")


@pytest.fixture
def denoise(monkeypatch):
    monkeypatch.syspath_prepend(str(cli.examples_folder()))
    return __import__("denoise")


def test_noise_goes(denoise):
    photo = denoise.load_photo()[:, :, 100:260, 200:363]
    noisy = photo + np.random.default_rng(0).normal(0, 0.1, photo.shape).astype(np.float32)
    clean = denoise.denoise_photo(noisy, 0.1)
    assert clean.shape == photo.shape
    assert clean.dtype == np.float32
    assert denoise.psnr(clean, photo) > denoise.psnr(noisy, photo) + 5


def test_without_noise_nothing_changes(denoise):
    photo = denoise.load_photo()[:, :, :40, :51]
    clean = denoise.denoise_photo(photo, 0.0)
    assert np.max(np.abs(clean - photo)) < 64 * np.finfo(np.float32).eps
