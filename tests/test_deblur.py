"""The deblurring example: a real photo out of focus comes back, and the adjoint that LSQR needs is right."""

import numpy as np
import pytest

from windrow import cli

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("PIL")


@pytest.fixture
def deblur(monkeypatch):
    monkeypatch.syspath_prepend(str(cli.examples_folder()))
    return __import__("deblur")


def test_the_blur_goes(deblur):
    photo = deblur.load_photo()[:, :, 100:200, 200:303].astype(np.float64)
    kernel = deblur.disk(2.5)
    assert kernel.sum() == pytest.approx(1, abs=1e-15)
    blurred = deblur.linear_operator(kernel, (3, 1, 100, 103)) @ photo.ravel()
    truth = photo[:, :, 3:-3, 3:-3]
    blurred = blurred.reshape(truth.shape)
    sharp = deblur.deblur(blurred, kernel, damp=0.0, steps=40)
    assert sharp.shape == truth.shape
    assert deblur.psnr(sharp, truth) > deblur.psnr(blurred, truth) + 6
