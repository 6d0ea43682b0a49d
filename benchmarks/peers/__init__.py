"""The competitors, each an optional plug-in: one module with `load(threads) -> Peer`, named here."""

from importlib import import_module

from .base import Absent, Candidate, Peer

# Name on the command line and in results -> (module of this package, the distribution it needs).
MODULES = {
    "windrow": ("windrow_own", "windrow"),
    "torch": ("pytorch", "torch"),
    "onnxruntime": ("onnx_runtime", "onnxruntime"),
    "jax": ("jax_xla", "jax"),
    "openvino": ("open_vino", "openvino"),
    "numpy": ("numpy_views", "numpy"),
}
OURS = "windrow"


def load(names: tuple[str, ...], threads: int) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that are installed, and for each other one why it is missing."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = import_module(f".{MODULES[name][0]}", __name__).load(threads)
        except ImportError as error:
            missing[name] = f"{type(error).__name__}: {error}"
    return found, missing


__all__ = ["MODULES", "OURS", "Absent", "Candidate", "Peer", "load"]
