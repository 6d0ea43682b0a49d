"""Write the figures of docs/patches.md: python tools/patch_figures.py"""

import subprocess
import sys
from pathlib import Path

from windrow.drawing import draw_layout

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"

LAYOUTS = {"torch": "n (c k) l", "notebook": "(c k) (l n)", "rows": "(n l) (c k)"}


def main() -> None:
    for name, layout in LAYOUTS.items():
        figure = draw_layout((2, 1, 3, 4), 2, layout=layout)
        figure.savefig(IMAGES / f"layout_{name}.png", dpi=80)
    figure = draw_layout((1, 1, 4, 4), 3, stride=2, padding=1)
    figure.savefig(IMAGES / "layout_padding.png", dpi=80)
    script = ROOT / "examples" / "denoise.py"
    subprocess.run([sys.executable, script, "--output", IMAGES / "denoise.png"], check=True)


if __name__ == "__main__":
    main()
