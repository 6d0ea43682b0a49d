"""windrow on Dask arrays: convolution, its gradients and patches of what is larger than memory or a machine.

>>> import dask.array as da
>>> import numpy as np
>>> import windrow as wr
>>> from windrow.dask import conv
>>> x = np.random.default_rng(0).standard_normal((2, 3, 20, 20))
>>> w = np.ones((4, 3, 3, 3))
>>> y = conv(da.from_array(x, chunks=(1, 3, 7, 20)), w, stride=2, padding=1)
>>> y.chunks
((1, 1), (4,), (4, 3, 3), (10,))
>>> np.array_equal(y.compute(), wr.conv(x, w, stride=2, padding=1, algorithm="direct"))
True

A block of a result is computed from just the part of the input that its windows see, zeros where that lies
outside, so that halo and phase of the stride are exact at every seam. Chunks of images and spatial axes
change no bit of y, dx, unfold and fold. Where chunks cut an axis that is summed over (input channels for y;
filters for dx; images and positions for dw; the image of a global mean), their partial sums are added in a
fixed order. With
groups, axes of channels are brought into one chunk first; so are weights.

Needs Dask (``pip install 'windrow[dask]'``).
"""

from .convolution import conv, conv_backward, conv_grad_input, conv_grad_weight
from .global_pooling import (
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    global_max_pool_with_indices,
)
from .patches import fold, unfold
from .pooling import (
    avg_pool,
    avg_pool_backward,
    lp_pool,
    lp_pool_backward,
    max_pool,
    max_pool_backward,
    max_pool_with_indices,
)

__all__ = [
    "avg_pool", "avg_pool_backward", "conv", "conv_backward", "conv_grad_input", "conv_grad_weight", "fold",
    "global_avg_pool", "global_avg_pool_backward", "global_max_pool", "global_max_pool_backward",
    "global_max_pool_with_indices", "lp_pool", "lp_pool_backward", "max_pool", "max_pool_backward",
    "max_pool_with_indices", "unfold",
]  # fmt: skip
