"""Edges, blur and sharpening of a photograph, with one function: ``windrow.conv``.

    python examples/photo.py [--image FILE] [--output FILE]

An image filter is a convolution whose weights a person chose. A photograph is an array of shape (1, 3,
height, width); ``groups=3`` gives each colour its own filter.
"""

import argparse
from pathlib import Path

import numpy as np

import windrow as wr

Array = np.ndarray

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32)  # how much brighter it is on the right
LUMINANCE = np.array(
    [0.2126, 0.7152, 0.0722], np.float32
)  # how bright red, green and blue look (ITU-R BT.709)


def load_photo(path: str | None = None) -> Array:
    """A photograph as (1, 3, height, width), values from 0 to 1; without a path the one in scikit-learn."""
    if path is None:
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image("china.jpg")
    else:
        from PIL import Image

        pixels = np.asarray(Image.open(path).convert("RGB"))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32) / 255


def continued(photo: Array, pixels: int) -> Array:
    """The photo with its border pixels repeated outwards, so that its edge is not an edge to the filters."""
    return np.pad(photo, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), mode="edge")


def edges(photo: Array) -> Array:
    """The length of the brightness gradient at every pixel: (height, width)."""
    brightness = wr.conv(photo, LUMINANCE.reshape(1, 3, 1, 1))
    both = np.stack([SOBEL, SOBEL.T])[:, None] / 8  # two filters: left to right, top to bottom
    gradient = wr.conv(continued(brightness, 1), both)
    return np.hypot(gradient[0, 0], gradient[0, 1])


def blur(photo: Array, sigma: float = 3.0) -> Array:
    """A Gaussian blur: two one-dimensional filters, down and then across, for each colour by itself."""
    reach = int(3 * sigma)
    bell = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float32) ** 2) / (2 * sigma**2))
    bell /= bell.sum()
    down = np.tile(bell.reshape(1, 1, -1, 1), (3, 1, 1, 1))
    across = np.tile(bell.reshape(1, 1, 1, -1), (3, 1, 1, 1))
    return wr.conv(wr.conv(continued(photo, reach), down, groups=3), across, groups=3)


def sharpen(photo: Array, amount: float = 1.0, sigma: float = 1.5) -> Array:
    """The photo plus what a blur takes away from it (an unsharp mask)."""
    return np.clip(photo + amount * (photo - blur(photo, sigma)), 0, 1)


def responses(photo: Array) -> dict[str, Array]:
    """Every picture of this example by name, ready for ``imshow``: (height, width) or (height, width, 3)."""
    strength = edges(photo)
    return {
        "photo": as_picture(photo),
        "edges": np.clip(strength / np.quantile(strength, 0.99), 0, 1),
        "blurred": as_picture(blur(photo)),
        "sharpened": as_picture(sharpen(photo)),
    }


def as_picture(photo: Array) -> Array:
    """(1, 3, height, width) as (height, width, 3)."""
    return photo[0].transpose(1, 2, 0)


def main() -> None:
    """Write the four pictures side by side."""
    parser = argparse.ArgumentParser(description="Edges, blur and sharpening of a photograph.")
    parser.add_argument("--image", help="a picture file (a photograph from scikit-learn)")
    parser.add_argument(
        "--output", default="windrow-photo.png", help="where to write the result (windrow-photo.png)"
    )
    arguments = parser.parse_args()

    from PIL import Image

    pictures = [
        np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
        for picture in responses(load_photo(arguments.image)).values()
    ]
    rows = np.concatenate([np.concatenate(pictures[:2], axis=1), np.concatenate(pictures[2:], axis=1)])
    Image.fromarray((rows * 255).round().astype(np.uint8)).save(arguments.output)
    print(Path(arguments.output).resolve())


if __name__ == "__main__":
    main()
