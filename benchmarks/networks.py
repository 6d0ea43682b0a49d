"""Whole networks: training steps and inference of all convolutions of a network, one after another.

What lies between convolutions (normalisation, pooling, sums) is left out, for everybody. In a training step
each layer has operands of its own, made beforehand; in inference each reads what the one before it wrote.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

import windrow as wr

from . import timing
from .layers import Layer
from .peers import OURS, Peer
from .peers.base import Absent, Candidate, identity
from .problem import Check, channels_last, make
from .race import gather, split, time_cell

CHAIN_TOLERANCE = 1e-4  # of the largest result, after a chain of 50 layers in float32


class Network(NamedTuple):
    """The convolutions of a network in order; equal ones share their operands."""

    name: str
    batch: int
    layers: tuple[Layer, ...]
    sources: tuple[int | None, ...] = ()  # whose result each layer reads; None: an image of its own

    @property
    def flops(self) -> int:
        return sum(layer.flops for layer in self.layers)


def _layer(batch: int, c: int, size: int, k: int, kernel: int, stride: int = 1) -> Layer:
    name = f"{size}_{c}_{k}_{kernel}x{kernel}" + ("" if stride == 1 else f"_s{stride}")
    pad = kernel // 2
    return Layer(
        "networks", name, batch, c, (size,) * 2, k, (kernel,) * 2, (stride,) * 2, (pad,) * 2, (1,) * 2, 1
    )


def vgg16(size: int, batch: int) -> Network:
    """The 13 convolutions of VGG-16 on images of size x size (Simonyan and Zisserman, 2014)."""
    layers, c, here = [], 3, size
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers.append(_layer(batch, c, here, width, 3))
            c = width
        here //= 2
    return Network(f"vgg16 {size}x{size}", batch, tuple(layers))


def resnet50(batch: int) -> Network:
    """The 53 convolutions of ResNet-50 at 224x224 (He, Zhang, Ren and Sun, 2015), the stride in the 3x3."""
    layers, c, here = [_layer(batch, 3, 224, 64, 7, 2)], 64, 56
    sources: list[int | None] = [None]
    block_input = None  # the pooled image
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first if block == 0 else 1
            if block == 0:
                layers.append(_layer(batch, c, here, 4 * width, 1, stride))
                sources.append(block_input)
            layers.append(_layer(batch, c, here, width, 1))
            layers.append(_layer(batch, width, here, width, 3, stride))
            here //= stride
            layers.append(_layer(batch, width, here, 4 * width, 1))
            sources += [block_input, len(layers) - 3, len(layers) - 2]
            c, block_input = 4 * width, len(layers) - 1
    return Network("resnet50 224x224", batch, tuple(layers), tuple(sources))


def resnet20(batch: int) -> Network:
    """The convolutions of the ResNet with 20 layers for 32x32 images, shortcuts by 1x1 (the same paper)."""
    layers, c, here = [_layer(batch, 3, 32, 16, 3)], 16, 32
    for width in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and width > 16 else 1
            if stride == 2:
                layers.append(_layer(batch, c, here, width, 1, 2))
            layers.append(_layer(batch, c, here, width, 3, stride))
            here //= stride
            layers.append(_layer(batch, width, here, width, 3))
            c = width
    return Network("resnet20 32x32", batch, tuple(layers))


def networks() -> list[Network]:
    return [vgg16(32, 8), resnet20(32), vgg16(224, 1), resnet50(1)]


# Training


def _step(parts: Sequence[Candidate]) -> None:
    for part in parts:
        part.call()


def training(network: Network, dtype: str, peer: Peer) -> list[Candidate]:
    """A training step in each of a peer's formats: y of all layers, then both gradients from the last on.

    Nobody makes the first layer's input gradient, for which images have no use.
    """
    first = network.layers[0]
    calls: dict[str, dict[tuple[Layer, str], Candidate]] = {}
    for layer in dict.fromkeys(network.layers):
        problem = make(layer, dtype)
        for which in ("y", "dx", "dw"):
            if (layer, which) == (first, "dx"):
                continue
            check = Check(problem, which)
            for candidate in peer.conv(problem, which):
                if candidate.prepared:
                    continue
                wrong = check.complaint(candidate.value(candidate.call()), dtype)
                if wrong is not None:
                    raise Absent(f"wrong: {candidate.name}: {layer.name} {which}: {wrong}")
                calls.setdefault(candidate.name, {})[layer, which] = candidate
    order = [(layer, "y") for layer in network.layers]
    for layer in reversed(network.layers):
        order += [(layer, which) for which in ("dx", "dw") if (layer, which) != (first, "dx")]
    found = []
    for name, parts in calls.items():
        # A single channel has no channels-last form of its own.
        other = calls[min(calls, key=len)]
        sequence = [parts.get(key) or other[key] for key in order]
        found.append(Candidate(name, partial(_step, sequence), identity, sequence[0].out))
    return found


# Inference


class Chain(NamedTuple):
    """Operands of a network whose layers read each other's results, each followed by a ReLU."""

    network: Network
    images: dict[int, np.ndarray]  # for the layers that read no other's result
    weights: list[np.ndarray]

    @property
    def ends(self) -> list[int]:
        """The layers whose results nobody reads."""
        return sorted(set(range(len(self.weights))) - set(self.network.sources))


def chain(network: Network, seed: int = 0) -> Chain:
    """Normal images and weights scaled so that results keep their size from layer to layer."""
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, ...], scale: float) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = [normal(x.w_shape, sqrt(2 / np.prod(x.w_shape[1:]))) for x in network.layers]
    images: dict[int, np.ndarray] = {}
    by_shape: dict[tuple[int, ...], np.ndarray] = {}
    for i, (layer, source) in enumerate(zip(network.layers, network.sources)):
        if source is None:
            images[i] = by_shape.setdefault(layer.x_shape, normal(layer.x_shape, 1))
    return Chain(network, images, weights)


def our_chains(operands: Chain) -> list[Candidate]:
    return [
        _our_chain("windrow prepared", operands, np.ascontiguousarray),
        _our_chain("windrow prepared channels-last", operands, channels_last),
    ]


def _our_chain(name: str, operands: Chain, arrange: Callable[[np.ndarray], np.ndarray]) -> Candidate:
    results = [arrange(np.full(layer.y_shape, np.nan, np.float32)) for layer in operands.network.layers]
    images = {id(image): arrange(image) for image in operands.images.values()}
    steps = []
    for i, (layer, source) in enumerate(zip(operands.network.layers, operands.network.sources)):
        prepared = wr.prepare_conv(
            operands.weights[i], stride=layer.stride, padding=layer.pad, activation="relu"
        )
        x = images[id(operands.images[i])] if source is None else results[source]
        steps.append(partial(prepared, x, results[i]))

    def run() -> None:
        for step in steps:
            step()

    return Candidate(name, run, lambda _: _flat([results[i] for i in operands.ends]), "existing", True)


def _flat(results: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([result.ravel() for result in results])


def onnxruntime_chain(operands: Chain, threads: int) -> list[Candidate]:
    """One session with all convolutions and their ReLUs, weights as constants, buffers bound."""
    try:
        import onnxruntime as ort  # noqa: PLC0415  (optional, and slow to import)
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415
    except ImportError as error:
        raise Absent(f"{type(error).__name__}: {error}") from None
    nodes, constants, ends = [], [], operands.ends
    names = {id(image): f"x{i}" for i, image in operands.images.items()}
    for i, (layer, source) in enumerate(zip(operands.network.layers, operands.network.sources)):
        x = names[id(operands.images[i])] if source is None else f"y{source}"
        constants.append(numpy_helper.from_array(operands.weights[i], f"w{i}"))
        window = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": layer.pad * 2}
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"sum{i}"], **window))
        nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"y{i}"]))
    shapes = {names[id(image)]: image.shape for image in operands.images.values()}
    outputs = {f"y{i}": operands.network.layers[i].y_shape for i in ends}
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for image in operands.images.values():
        binding.bind_ortvalue_input(names[id(image)], ort.OrtValue.ortvalue_from_numpy(image))
    bound = {n: ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32) for n, shape in outputs.items()}
    for name, value in bound.items():
        binding.bind_ortvalue_output(name, value)
    return [
        Candidate(
            "onnxruntime",
            partial(session.run_with_iobinding, binding),
            lambda _: _flat([value.numpy() for value in bound.values()]),
            "existing",
            True,
        )
    ]


# Cells


def cells(
    chosen: Sequence[Network],
    rivals: dict[str, Peer],
    dtypes: Sequence[str],
    threads: int,
    method: timing.Method,
) -> Iterator[dict[str, Any]]:
    """Training steps of every network, and inference of those whose layers follow one another."""
    for network in chosen:
        for dtype in dtypes:
            offers = (
                (name, partial(training, network, dtype, peer))
                for name, peer in rivals.items()
                if name in (OURS, "torch")
            )
            found, absent = gather(offers)
            yield _cell(network, "training", dtype, time_cell(found, lambda _: None, absent, method, None))
        if network.sources and OURS in rivals and "float32" in dtypes:
            operands = chain(network)
            offers = iter(
                [
                    (OURS, partial(our_chains, operands)),
                    ("onnxruntime", partial(onnxruntime_chain, operands, threads)),
                ]
            )
            found, absent = gather(offers)
            complaint = partial(_chain_complaint, found[0])
            yield _cell(network, "inference", "float32", time_cell(found, complaint, absent, method, None))


def _chain_complaint(first: Candidate, got: np.ndarray) -> str | None:
    """All chains against the first: where two libraries agree after 50 layers, both are right."""
    expected = first.value(None)
    error = np.abs(got - expected).max() / np.abs(expected).max()
    return None if error <= CHAIN_TOLERANCE else f"wrong: off by {error:.3g} of the largest result"


def _cell(network: Network, work: str, dtype: str, timed: dict[str, Any]) -> dict[str, Any]:
    passes = 3 if work == "training" else 1
    flops = passes * network.flops - (network.layers[0].flops if work == "training" else 0)
    return {
        "network": network.name,
        "work": work,
        "n": network.batch,
        "dtype": dtype,
        "flops": flops,
        **timed,
        "ratio": network_ratio(timed),
    }


def network_ratio(timed: dict[str, Any]) -> float | None:
    """The best peer's time over that of our better format; in inference ours have prepared weights too."""
    times = {name: entry["median"] for name, entry in timed["candidates"].items()}
    ours = [t for name, t in times.items() if name.split()[0] == OURS]
    rivals = split(timed["candidates"])[1].values()
    return min(rivals) / min(ours) if ours and rivals else None
