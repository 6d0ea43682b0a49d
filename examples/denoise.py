"""Denoise a photograph by the DCT of its patches: ``windrow.patches`` cuts, blends and bounds the memory.

    python examples/denoise.py [--image FILE] [--sigma 0.1] [--output denoise.png]

In the discrete cosine transform of an 8x8 patch the picture is a few large numbers and the noise many small
ones. Every patch at every position is transformed, what is below three times the noise is set to zero, and
the patches are transformed back; each pixel is then the mean of the 64 patches that cover it. (Yu and Sapiro,
"DCT Image Denoising", Image Processing On Line, 2011.)
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.fft import dctn, idctn

import windrow as wr
from photo import load_photo

Array = np.ndarray

PATCH = 8
THRESHOLD = 3.0  # times the noise's standard deviation
# Colours as brightness and two differences (an orthonormal basis), in which the noise stays what it is.
OPPONENT = np.array([[3**-0.5] * 3, [2**-0.5, 0, -(2**-0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]], np.float32)


def denoise(noisy: Array, sigma: float, stride: int = 1) -> Array:
    """Images (N, C, height, width) without most of their noise of standard deviation `sigma`."""

    def shrink(patches: Array) -> Array:
        spectrum = dctn(patches, axes=(-2, -1), norm="ortho")
        mean = spectrum[..., 0, 0].copy()
        spectrum[np.abs(spectrum) < THRESHOLD * sigma] = 0
        spectrum[..., 0, 0] = mean
        return idctn(spectrum, axes=(-2, -1), norm="ortho")

    tiles = wr.patches(noisy.shape, PATCH, stride=stride, remainder="shift")
    return tiles.map(shrink, noisy, reduce="mean")


def denoise_photo(noisy: Array, sigma: float, stride: int = 1) -> Array:
    """The same for a colour photo (1, 3, height, width)."""
    basis = OPPONENT[:, :, None, None]
    opponent = wr.conv(noisy, basis)
    return wr.conv(denoise(opponent, sigma, stride), np.ascontiguousarray(basis.transpose(1, 0, 2, 3)))


def psnr(image: Array, truth: Array) -> float:
    """Peak signal-to-noise ratio in decibels, for values from 0 to 1."""
    return float(-10 * np.log10(np.mean((image.astype(float) - truth) ** 2)))


def draw(path: Path, panels: dict[str, Array]) -> None:
    """The images side by side, with a part of each enlarged below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.8 * len(panels), 4), layout="constrained", dpi=72)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for column, (title, image) in enumerate(panels.items()):
        pixels = np.clip(image[0].transpose(1, 2, 0), 0, 1)
        h, w = pixels.shape[:2]
        axes[0, column].imshow(pixels)
        axes[0, column].set_title(title)
        axes[1, column].imshow(pixels[h // 2 - h // 8 : h // 2 + h // 8, w // 2 - w // 8 : w // 2 + w // 8])
    for ax in axes.flat:
        ax.set_axis_off()
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="a photo (default: one that comes with scikit-learn)")
    parser.add_argument("--sigma", type=float, default=0.1, help="standard deviation of the noise added")
    parser.add_argument("--stride", type=int, default=1, help="step from patch to patch")
    parser.add_argument("--output", type=Path, default=Path("denoise.png"))
    options = parser.parse_args(arguments)
    photo = load_photo(options.image)
    noise = np.random.default_rng(0).normal(0, options.sigma, photo.shape)
    noisy = photo + noise.astype(np.float32)
    clean = denoise_photo(noisy, options.sigma, options.stride)
    before, after = psnr(noisy, photo), psnr(clean, photo)
    print(f"PSNR before {before:.2f} dB, after {after:.2f} dB")
    panels = {
        "original": photo,
        f"with noise, {before:.1f} dB": noisy,
        f"denoised, {after:.1f} dB": clean,
    }
    draw(options.output, panels)
    print(options.output)


if __name__ == "__main__":
    main()
