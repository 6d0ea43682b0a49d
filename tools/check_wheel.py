"""Print the size of each wheel in dist/, and fail if one is over what is promised: `make wheel`."""

import sys
from pathlib import Path

LIMIT = 2 * 10**6  # bytes


def main() -> int:
    wheels = sorted((Path(__file__).resolve().parent.parent / "dist").glob("*.whl"))
    if not wheels:
        print("no wheel in dist/")
        return 1
    sizes = {wheel.name: wheel.stat().st_size for wheel in wheels}
    for name, size in sizes.items():
        print(f"{name}: {size / 1e6:.2f} MB (promised: under {LIMIT / 1e6:.0f} MB)")
    return int(max(sizes.values()) >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
