"""Convolution layers, their exact gradients and patch extraction for plain NumPy arrays."""

from typing import Any

# First, since it refuses a subinterpreter in our name, before NumPy does in its own.
from ._core import __version__  # isort: split

from . import layers
from .bilinear import conv_double_backward, conv_jvp
from .config import get_num_threads, num_threads, release_workspaces, set_num_threads, show_config
from .convolution import (
    ConvGradients,
    conv,
    conv_backward,
    conv_grad_bias,
    conv_grad_input,
    conv_grad_weight,
)
from .global_pooling import (
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    global_max_pool_with_indices,
)
from .lp_pooling import lp_pool, lp_pool_backward
from .plan import Plan, explain
from .pooling import (
    MaxPooled,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_with_indices,
    max_unpool,
    max_unpool_backward,
)
from .prepared import PreparedConv, prepare_conv
from .tiling import Patches, patches
from .transposed import conv_transpose, conv_transpose_backward
from .unfolding import col2im, fold, im2col, unfold

__all__ = [
    "ConvGradients",
    "MaxPooled",
    "Patches",
    "Plan",
    "PreparedConv",
    "__version__",
    "avg_pool",
    "avg_pool_backward",
    "col2im",
    "conv",
    "conv_backward",
    "conv_double_backward",
    "conv_grad_bias",
    "conv_grad_input",
    "conv_grad_weight",
    "conv_jvp",
    "conv_transpose",
    "conv_transpose_backward",
    "explain",
    "fold",
    "get_num_threads",
    "global_avg_pool",
    "global_avg_pool_backward",
    "global_max_pool",
    "global_max_pool_backward",
    "global_max_pool_with_indices",
    "im2col",
    "layers",
    "lp_pool",
    "lp_pool_backward",
    "max_pool",
    "max_pool_backward",
    "max_pool_with_indices",
    "max_unpool",
    "max_unpool_backward",
    "num_threads",
    "patches",
    "prepare_conv",
    "release_workspaces",
    "set_num_threads",
    "show_config",
    "unfold",
]

_ON_FIRST_USE = ("gradcheck", "reference", "testing")  # submodules that a program rarely needs


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        import importlib  # noqa: PLC0415

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_FIRST_USE])
