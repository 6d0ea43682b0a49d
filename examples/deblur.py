"""Undo the blur of a photograph: `windrow.scipy` makes a convolution an operator that SciPy's solvers invert.

    python examples/deblur.py [--image FILE] [--radius 4] [--noise 0.001] [--output deblur.png]

Out of focus, every point becomes a disk. The blurred photo is conv(photo, disk) and a little noise; LSQR
looks for the photo whose blur comes closest to it, with `damp` against the noise that inverting amplifies.
All it needs are products with the operator and with its adjoint. (Paige and Saunders, "LSQR: An Algorithm
for Sparse Linear Equations and Sparse Least Squares", ACM Transactions on Mathematical Software 8, 1982.)
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import lsqr

from denoise import draw, psnr
from photo import load_photo
from windrow.scipy import linear_operator

Array = np.ndarray


def disk(radius: float) -> Array:
    """The image of a point that is out of focus: a disk of weight 1, as filters (1, 1, size, size)."""
    reach = int(np.ceil(radius))
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # The rim's pixels are covered in part.
    weights = np.clip(radius + 0.5 - np.hypot(row, column), 0, 1)
    return (weights / weights.sum())[None, None]


def deblur(blurred: Array, kernel: Array, damp: float, steps: int) -> Array:
    """The photo (1, 3, height, width) whose blur is closest to `blurred` within so many steps of LSQR."""
    height, width = blurred.shape[2:]
    # Colours are images; what lies up to half a kernel outside has been blurred in, so it is looked for too.
    pads = [side // 2 for side in kernel.shape[2:]]
    wide = (3, 1, height + 2 * pads[0], width + 2 * pads[1])
    blur = linear_operator(kernel, wide)
    start = np.pad(blurred[0], ((0, 0), *((pad, pad) for pad in pads)), mode="edge").astype(np.float64)
    found = lsqr(blur, blurred.ravel(), damp=damp, iter_lim=steps, x0=start.ravel())[0]
    return found.reshape(wide)[None, :, 0, pads[0] : -pads[0], pads[1] : -pads[1]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="a photo (default: one that comes with scikit-learn)")
    parser.add_argument("--radius", type=float, default=4.0, help="of the blur, in pixels")
    parser.add_argument("--noise", type=float, default=0.001, help="its standard deviation, of values 0 to 1")
    parser.add_argument("--steps", type=int, default=60, help="of LSQR")
    parser.add_argument("--output", type=Path, default=Path("deblur.png"))
    options = parser.parse_args(arguments)
    photo = load_photo(options.image).astype(np.float64)
    kernel = disk(options.radius)
    colours = (3, 1, *photo.shape[2:])
    pad = kernel.shape[2] // 2
    truth = photo[:, :, pad:-pad, pad:-pad]
    blurred = (linear_operator(kernel, colours) @ photo.ravel()).reshape(truth.shape)
    blurred = blurred + np.random.default_rng(0).normal(0, options.noise, blurred.shape)
    sharp = deblur(blurred, kernel, damp=5 * options.noise, steps=options.steps)
    before, after = psnr(blurred, truth), psnr(sharp, truth)
    print(f"PSNR before {before:.2f} dB, after {after:.2f} dB")
    panels = {
        "original": truth,
        f"out of focus, {before:.1f} dB": blurred,
        f"deblurred, {after:.1f} dB": sharp,
    }
    draw(options.output, panels)
    print(options.output)


if __name__ == "__main__":
    main()
