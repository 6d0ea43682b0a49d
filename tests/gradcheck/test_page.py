"""The pictures of docs/gradcheck.md are those that its script draws."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gradcheck.md"


def test_the_script_draws_every_picture_of_the_page(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "tools" / "gradcheck_pictures.py", "--output", tmp_path], check=True
    )
    named = set(re.findall(r"\(images/(.*?)\)", PAGE.read_text()))
    assert named == {path.name for path in tmp_path.iterdir()}
    for name in named:
        assert (ROOT / "docs" / "images" / name).exists()
