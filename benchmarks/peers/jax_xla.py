"""JAX on the CPU: jitted forward pass and vector-Jacobian products, channels first and channels last."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import limits
from ..problem import Problem
from .base import Candidate, Peer

_AXES = "DHW"


class Jax(Peer):
    name = "jax"

    def __init__(self, threads: int) -> None:
        # XLA's thread pool has no option of its own: it follows the affinity that was set before this import.
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_enable_x64", True)
        # Compiling takes half a second a cell, so it is kept from run to run.
        jax.config.update("jax_compilation_cache_dir", str(limits.cache_folder() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        self.version = jax.__version__
        self.settings = {"threads": "by affinity", "devices": [str(d) for d in jax.devices()]}

    def conv(self, problem: Problem, which: str) -> list[Candidate]:
        axes = _AXES[-problem.layer.rank :] if problem.layer.rank <= 3 else "DHWUV"[: problem.layer.rank]
        first = _candidate("jax", problem, which, ("NC" + axes, "OI" + axes, "NC" + axes))
        last = _candidate(
            "jax channels-last", problem, which, ("N" + axes + "C", axes + "IO", "N" + axes + "C")
        )
        return [first, last]


def _candidate(name: str, problem: Problem, which: str, dimensions: tuple[str, str, str]) -> Candidate:
    layer = problem.layer
    image_last, weights_last = dimensions[0][-1] == "C", dimensions[1][-1] == "O"

    def conv(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            w,
            layer.stride,
            [(p, p) for p in layer.pad],
            rhs_dilation=layer.dilation,
            dimension_numbers=dimensions,
            feature_group_count=layer.groups,
            precision="highest",
        )

    def image(array: np.ndarray) -> Any:
        return jnp.asarray(np.ascontiguousarray(np.moveaxis(array, 1, -1)) if image_last else array)

    def weights(array: np.ndarray) -> Any:
        if weights_last:
            array = np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))
        return jnp.asarray(array)

    x, w, dy = image(problem.x), weights(problem.w), image(problem.dy)
    function: Callable[..., Any]
    if which == "y":
        function, operands = conv, (x, w)
    elif which == "dx":
        # The primal is dead code under jit: only the gradient is computed.
        function, operands = (lambda dy, x, w: jax.vjp(lambda a: conv(a, w), x)[1](dy)[0]), (dy, x, w)
    else:
        function, operands = (lambda dy, x, w: jax.vjp(lambda a: conv(x, a), w)[1](dy)[0]), (dy, x, w)
    compiled = jax.jit(function).lower(*operands).compile()

    def call() -> Any:
        return compiled(*operands).block_until_ready()

    def value(result: Any) -> np.ndarray:
        array = np.asarray(result)
        if which == "dw":
            return np.moveaxis(array, (-1, -2), (0, 1)) if weights_last else array
        return np.moveaxis(array, -1, 1) if image_last else array

    return Candidate(name, call, value, "fresh")


def load(threads: int) -> Peer:
    return Jax(threads)
