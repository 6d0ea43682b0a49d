"""The executable specification: what every fast path must compute, in plain NumPy, written to be read.

It is slow on purpose, assumes valid arguments and shares no code with the fast path. Begin with ``sizes``
(where windows lie), then ``patches`` (taking windows out and putting them back, three ways), ``layouts`` (in
which order), ``convolution`` (the layer and its gradients, by definition and tap by tap), ``transposed``
(transposed convolution, likewise), ``pooling``, and ``borders`` (padding that is made of pixels).
"""

from windrow.reference.borders import extend, extend_adjoint, repeated
from windrow.reference.convolution import (
    conv,
    conv_by_definition,
    conv_grad_bias,
    conv_grad_input,
    conv_grad_input_by_definition,
    conv_grad_weight,
    conv_grad_weight_by_definition,
)
from windrow.reference.layouts import arrange, restore
from windrow.reference.patches import col2im, coverage, fold, im2col, unfold, window_indices, zero_pad
from windrow.reference.pooling import (
    avg_pool,
    avg_pool_backward,
    global_avg_pool,
    global_max_pool_with_indices,
    lp_pool,
    lp_pool_backward,
    max_pool_backward,
    max_pool_with_indices,
    max_unpool,
    pool_windows,
    window_counts,
)
from windrow.reference.sizes import Windows, windows
from windrow.reference.transposed import (
    conv_transpose,
    conv_transpose_by_definition,
    conv_transpose_grad_input,
    conv_transpose_grad_weight,
)

__all__ = [
    "Windows",
    "arrange",
    "avg_pool",
    "avg_pool_backward",
    "col2im",
    "conv",
    "conv_by_definition",
    "conv_grad_bias",
    "conv_grad_input",
    "conv_grad_input_by_definition",
    "conv_grad_weight",
    "conv_grad_weight_by_definition",
    "conv_transpose",
    "conv_transpose_by_definition",
    "conv_transpose_grad_input",
    "conv_transpose_grad_weight",
    "coverage",
    "extend",
    "extend_adjoint",
    "fold",
    "global_avg_pool",
    "global_max_pool_with_indices",
    "im2col",
    "lp_pool",
    "lp_pool_backward",
    "max_pool_backward",
    "max_pool_with_indices",
    "max_unpool",
    "pool_windows",
    "repeated",
    "restore",
    "unfold",
    "window_counts",
    "window_indices",
    "windows",
    "zero_pad",
]
