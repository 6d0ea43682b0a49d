"""What ``windrow demo`` runs: the photograph, the digits, and one picture of both.

    python examples/demo.py [--output FILE] [--epochs N]

Whatever needs a package that is not installed is left out with a word about it.
"""

import argparse
import sys
from pathlib import Path

INSTALL = "pip install 'windrow[demo]'"
ENOUGH = 0.98  # of the held-out digits read right after a full training


def main() -> int:
    """Run all parts; the path of the picture is the last line."""
    parser = argparse.ArgumentParser(description="Filter a photograph, learn to read digits, draw a report.")
    parser.add_argument("--output", default="windrow-report.png", help="the picture (windrow-report.png)")
    parser.add_argument("--epochs", type=int, help="train for so long only, whatever the accuracy")
    arguments = parser.parse_args()
    if not Path(arguments.output).resolve().parent.is_dir():
        parser.error(f"--output: expected a file in an existing folder, got {arguments.output}")

    try:
        import digits
        import photo

        pictures = photo.responses(photo.load_photo())
        data = digits.load_digits()
    except ImportError as error:
        print(f"The photograph and the digits are left out ({error}). They come with: {INSTALL}")
        return 0

    height, width, _ = pictures["photo"].shape
    print(f"photograph  {width}x{height} pixels: {', '.join(name for name in pictures if name != 'photo')}")
    print(f"digits      {len(data.train_x)} to learn from, {len(data.test_x)} held out")
    training = digits.train(data) if arguments.epochs is None else digits.train(data, arguments.epochs)
    accuracy = training.test_accuracy[-1]
    print(f"            {accuracy:.2%} of the held-out digits read right, in {training.seconds:.1f} s")

    try:
        import report
    except ImportError as error:
        print(f"The picture is left out ({error}). It comes with: {INSTALL}")
    else:
        print(report.draw(pictures, data, training, arguments.output))

    if arguments.epochs is None and accuracy < ENOUGH:
        print(f"expected at least {ENOUGH:.1%} of the held-out digits, got {accuracy:.2%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
