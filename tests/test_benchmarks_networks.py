"""Whole networks: their layers are those of the papers, and chains compute what the reference computes."""

import sys
from pathlib import Path

import numpy as np
import pytest

from windrow import reference

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks import networks, tables, timing  # noqa: E402
from benchmarks.peers import load  # noqa: E402

METHOD = timing.Method(rounds=2, sample=1e-4, budget=0.1, least=2)


@pytest.mark.parametrize(
    ("network", "layers", "gflops"),
    [
        (networks.vgg16(224, 1), 13, 30.69),
        (networks.vgg16(32, 1), 13, 0.626),
        (networks.resnet50(1), 53, 8.17),
        (networks.resnet20(1), 21, 0.0816),
    ],
)
def test_networks_are_those_of_the_papers(network, layers, gflops):
    assert len(network.layers) == layers
    assert network.flops / 1e9 == pytest.approx(gflops, rel=0.01)


def test_layers_of_a_chain_fit_their_sources():
    network = networks.resnet50(2)
    assert len(network.sources) == len(network.layers)
    for i, (layer, source) in enumerate(zip(network.layers, network.sources)):
        if source is not None:
            assert source < i
            assert network.layers[source].y_shape == layer.x_shape
    assert network.sources.count(None) == 3  # the image, and the pooled one twice


def small_chain():
    layers = (
        networks._layer(1, 3, 8, 4, 3),
        networks._layer(1, 4, 8, 6, 3, 2),
        networks._layer(1, 4, 8, 5, 1),
    )
    return networks.Network("small 8x8", 1, layers, (None, 0, 0))


@pytest.mark.parametrize("make", [networks.our_chains, lambda c: networks.onnxruntime_chain(c, 1)])
def test_chains_compute_the_layers_one_after_another(make):
    if make is not networks.our_chains:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    operands = networks.chain(small_chain())
    assert operands.ends == [1, 2]
    results = []
    for layer, source, w in zip(operands.network.layers, operands.network.sources, operands.weights):
        x = operands.images[0] if source is None else results[source]
        y = reference.conv(x, w, stride=layer.stride, padding=layer.pad)
        results.append(np.maximum(y, 0).astype(np.float32))
    expected = np.concatenate([results[i].ravel() for i in operands.ends])
    for candidate in make(operands):
        candidate.call()
        np.testing.assert_allclose(candidate.value(None), expected, rtol=1e-4, atol=1e-5)


def test_cells_and_their_table():
    rivals, _ = load(("windrow",), 1)
    found = list(networks.cells([small_chain()], rivals, ["float32"], 1, METHOD))
    assert [cell["work"] for cell in found] == ["training", "inference"]
    training, inference = found
    assert set(training["candidates"]) == {"windrow", "windrow channels-last"}
    assert training["ratio"] is None
    assert training["flops"] == 3 * small_chain().flops - small_chain().layers[0].flops
    assert {"windrow prepared", "windrow prepared channels-last"} <= set(inference["candidates"])
    assert "small 8x8" in tables.networks({"cells": found}, "").markdown()


def test_ratio_is_the_best_peer_over_our_better_format():
    candidates = {
        "windrow": {"median": 2.0},
        "windrow channels-last": {"median": 1.0},
        "torch": {"median": 3.0},
    }
    assert networks.network_ratio({"candidates": candidates}) == 3.0


def test_a_wrong_chain_is_refused():
    right, wrong = np.ones(3), np.array([1, 1, 1.1])
    first = networks.Candidate("windrow prepared", lambda: None, lambda _: right, "existing", True)
    assert networks._chain_complaint(first, right) is None
    assert networks._chain_complaint(first, wrong) == "wrong: off by 0.1 of the largest result"
