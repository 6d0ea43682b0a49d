"""Examples in an adapter's docstrings run where what the adapter stands on is installed."""

from importlib.util import find_spec

ADAPTERS = ("autograd", "dask", "keras", "onnx", "scipy", "sklearn", "torch")

collect_ignore = [
    f"src/windrow/{name}{kind}" for name in ADAPTERS if find_spec(name) is None for kind in ("", ".py")
]
