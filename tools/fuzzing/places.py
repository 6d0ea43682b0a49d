"""Arbitrary calls of what has one window, and of what goes by indices: whichever these are."""

import math
from typing import Any

import numpy as np

import windrow as wr
from windrow import reference

from .case import LARGEST, Case

GLOBAL = ("global_max_pool", "global_max_pool_with_indices", "global_avg_pool", "global_avg_pool_backward")


class PlacesCase(Case):
    """Global pooling, and the operations that take indices, on small whole numbers, whose sums are exact."""

    operations = (
        *GLOBAL,
        "max_pool_backward",
        "global_max_pool_backward",
        "max_unpool",
        "max_unpool_backward",
    )
    names = frozenset(["x", "dy", "indices", "x_shape", "output_size", "out"])

    def run(self) -> str:
        """Do the call and judge it."""
        pick = self.random
        image = (self.n, self.channels, *self.size)
        if max(math.prod(max(1, size) for size in sizes) for sizes in (image, self.kernel)) > LARGEST:
            return "too large for the reference"
        one = (*image[:2], *(1 for _ in self.size))
        few = (*image[:2], *self.kernel) if self.operation.startswith("max") else one
        shape = image if self.operation in (*GLOBAL[:3], "max_unpool_backward") else few
        plain = self.rng.integers(-9, 10, shape).astype(self.dtype)
        if self.wild and pick.random() < 0.1:
            plain = plain.astype(np.dtype(pick.choice(["f2", "i4", "?", "c16", "O"])))
        elif pick.random() < 0.2 and plain.size and "max" in self.operation:
            plain.flat[pick.randrange(plain.size)] = pick.choice([np.nan, np.inf, -np.inf])
        name = "dy" if self.operation.endswith("backward") else "x"
        inputs = {name: self.dress(plain)}
        sensible = plain.dtype == self.dtype and (min(self.size) > 0 or self.operation not in GLOBAL)
        if self.operation not in GLOBAL:
            indices = self.indices(few)
            sensible = sensible and bool(np.all((indices >= -1) & (indices < math.prod(self.size))))
            inputs["indices"] = self.dress(indices)
        given = {name: np.array(np.asarray(value)) for name, value in inputs.items()}
        if "indices" in given and not np.array_equal(given["indices"], indices):
            sensible = False  # dressed in other values
        arguments = list(inputs.values())
        if self.operation == "max_unpool":
            arguments.append(tuple(self.size))
        elif self.operation.endswith("_pool_backward"):
            arguments.append(image)
        function = getattr(wr, self.operation)
        result = self.attempt(lambda: function(*arguments), inputs, None, sensible)
        if isinstance(result, str):
            return result
        expected = self.expected(given, image)
        results = result if isinstance(result, tuple) else (result,)
        for mine, theirs in zip(results, expected, strict=True):
            if not np.array_equal(mine, theirs, equal_nan=True):
                self.fail("other values than the reference")
        if self.operation not in ("global_max_pool_with_indices", "max_unpool_backward"):
            out = self.out(result.shape, result.dtype)
            again = self.attempt(lambda: function(*arguments, out=out), inputs, out, True)
            self.same_again(again, result)
        return "agrees"

    def indices(self, shape: tuple[int, ...]) -> Any:
        """Places in an image, or none; now and then beyond it."""
        pick = self.random
        places = self.rng.integers(-1, max(1, math.prod(self.size)), shape)
        if self.wild and places.size:
            wrong = [-2, math.prod(self.size), 2**31, 2**62, -(2**63)]
            places.flat[pick.randrange(places.size)] = pick.choice(wrong)
        kinds = ["i8", "i8", "i4", "i2"] if places.size and np.abs(places // 2).max() < 2**13 else ["i8"]
        return places.astype(pick.choice(kinds))

    def expected(self, given: dict[str, Any], image: tuple[int, ...]) -> tuple[Any, ...]:
        """What the reference makes of it."""
        value = given.get("x", given.get("dy"))
        indices = given.get("indices")
        with np.errstate(all="ignore"):
            if self.operation in GLOBAL[:2]:
                both = reference.global_max_pool_with_indices(value)
                return both if self.operation == GLOBAL[1] else both[:1]
            if self.operation == "global_avg_pool":
                return (reference.global_avg_pool(value),)
            if self.operation == "global_avg_pool_backward":
                return (np.broadcast_to(value / value.dtype.type(math.prod(self.size)), image),)
            if self.operation == "max_unpool":
                return (reference.max_unpool(value, indices, tuple(self.size)),)
            if self.operation == "max_unpool_backward":
                pixels = (
                    value.reshape(*image[:2], -1) if value.size else np.zeros((*image[:2], 0), value.dtype)
                )
                pixels = np.append(pixels, np.zeros((*image[:2], 1), value.dtype), axis=2)
                flat = indices.reshape(*image[:2], -1) if indices.size else np.zeros((*image[:2], 0), int)
                return (np.take_along_axis(pixels, flat.astype(int), 2).reshape(indices.shape),)
            return (reference.max_pool_backward(value, indices, image),)
