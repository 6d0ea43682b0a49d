"""Write the figures of docs/patches.md: python tools/patch_figures.py"""

import subprocess
import sys
from pathlib import Path

from windrow import cli

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"

LAYOUTS = {"torch": "n (c k) l", "notebook": "(c k) (l n)", "rows": "(n l) (c k)"}


def draw(*arguments: str) -> None:
    if cli.main(["explain", "unfold", *arguments]) != 0:
        raise SystemExit(1)


def main() -> None:
    for name, layout in LAYOUTS.items():
        draw("2x1x3x4", "2x2", "--layout", layout, "--draw", str(IMAGES / f"layout_{name}.png"))
    draw("1x1x4x4", "3x3", "--stride", "2", "--padding", "1", "--draw", str(IMAGES / "layout_padding.png"))
    script = ROOT / "examples" / "denoise.py"
    subprocess.run([sys.executable, script, "--output", IMAGES / "denoise.png"], check=True)


if __name__ == "__main__":
    main()
