"""`windrow.onnx`: ONNX's backend test suite on our operators, which are seen to run, and what it lacks."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx.reference")

import warnings
from pathlib import Path

from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

import windrow as wr
from windrow import reference
from windrow.onnx import OPERATORS

OURS = {operator.__name__: operator for operator in OPERATORS}


def _uses_ours(model):
    return any(node.op_type in OURS and node.domain == "" for node in model.graph.node)


def _array(value):
    """An input or output of a case, which may come as bytes, as a proto or as an array."""
    if isinstance(value, bytes):
        value = TensorProto.FromString(value)
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _cases():
    for case in load_model_tests(kind="node"):
        if _uses_ours(case.model):
            yield case.name, case.model, case.data_sets, case.rtol, case.atol
    for kind in ("pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            if not _uses_ours(model):
                continue
            sets = []
            for data in sorted(folder.glob("test_data_set*")):
                files = [sorted(data.glob(f"{part}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
                         for part in ("input", "output")]  # fmt: skip
                sets.append(tuple([file.read_bytes() for file in some] for some in files))
            yield case.name, model, sets, case.rtol, case.atol


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # their cases overflow on purpose
    CASES = list(_cases())


def test_the_suite_is_there():
    """If ONNX moves its cases, this must not pass for want of them."""
    used = {node.op_type for _, model, *_ in CASES for node in model.graph.node} & set(OURS)
    assert used == set(OURS)
    assert len(CASES) >= 60


@pytest.fixture
def ran(monkeypatch):
    """The names of our operators that ran; none of theirs may."""
    names = []
    for name, operator in OURS.items():
        run = operator._run
        seen = lambda self, *a, _run=run, _name=name, **k: (names.append(_name), _run(self, *a, **k))[1]  # noqa: E731
        monkeypatch.setattr(operator, "_run", seen)
    return names


@pytest.mark.parametrize(
    ("model", "sets", "rtol", "atol"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_their_suite(ran, model, sets, rtol, atol):
    evaluator = ReferenceEvaluator(model, new_ops=OPERATORS)
    expected = [node.op_type for node in model.graph.node if node.op_type in OURS]
    assert sets
    for inputs, outputs in sets:
        ran.clear()
        names = [value.name for value in model.graph.input][: len(inputs)]
        results = evaluator.run(None, dict(zip(names, map(_array, inputs), strict=True)))
        assert ran == expected
        for result, output in zip(results, map(_array, outputs), strict=True):
            assert result.dtype == output.dtype
            assert result.shape == output.shape
            np.testing.assert_allclose(result, output, rtol=rtol, atol=atol)


def _run(op, inputs, **attributes):
    names = [f"i{j}" for j in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    output = helper.make_tensor_value_info("y", infos[0].type.tensor_type.elem_type, None)
    graph = helper.make_graph([node], "one", infos, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return ReferenceEvaluator(model, new_ops=OPERATORS).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_groups_dilation_and_unequal_pads(dtype):
    """What ONNX's suite lacks."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 9, 11)).astype(dtype), rng.standard_normal((6, 2, 3, 2)).astype(dtype)
    b = rng.standard_normal(6).astype(dtype)
    y = _run("Conv", [x, w, b], group=2, dilations=[2, 3], strides=[1, 2], pads=[1, 0, 2, 3])
    options = {"groups": 2, "dilation": (2, 3), "stride": (1, 2), "padding": ((1, 2), (0, 3))}
    wide = np.float32 if dtype == np.float16 else dtype
    wanted = wr.conv(x.astype(wide), w.astype(wide), b.astype(wide), **options).astype(dtype)
    np.testing.assert_array_equal(y, wanted, strict=True)


def test_empty_batches():
    assert _run("Conv", [np.ones((0, 2, 5, 5)), np.ones((3, 2, 3, 3))]).shape == (0, 3, 3, 3)
    assert _run("ConvTranspose", [np.ones((0, 2, 5, 5)), np.ones((2, 3, 3, 3))]).shape == (0, 3, 7, 7)


def test_integers_are_exact_and_saturate():
    x = np.full((1, 1000, 1, 1), 255, np.uint8)
    w = np.full((2, 1000, 1, 1), 255, np.uint8)
    sums = _run("ConvInteger", [x, w])
    assert sums.dtype == np.int32
    assert np.all(sums == 255 * 255 * 1000)
    zero, one = np.array(0, np.uint8), np.array(1, np.float32)
    y = _run("QLinearConv", [x, one, zero, w, np.array([1, 1e-7], np.float32), zero, one, zero])
    assert y.dtype == np.uint8
    assert y.ravel().tolist() == [255, round(255 * 255 * 1000 * 1e-7)]


@pytest.mark.parametrize("kinds", [(np.uint8, np.int8), (np.int8, np.uint8), (np.uint8, np.uint8)])
def test_zero_points_of_every_filter(kinds):
    """Padding is the zero point; the sums are those of exact integers."""
    rng = np.random.default_rng(0)
    x, w = (
        rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)
        for kind, shape in zip(kinds, [(2, 4, 9, 7), (6, 2, 3, 2)], strict=True)
    )
    x_zero, w_zeros = x[0, 0, 0, :1].reshape(()), w[:, 0, 0, 0].copy()
    exact = reference.conv(
        x.astype(object) - int(x_zero), w.astype(object) - w_zeros.astype(object).reshape(-1, 1, 1, 1),
        stride=(1, 2), padding=((1, 2), (0, 3)), dilation=(2, 1), groups=2,
    )  # fmt: skip
    attributes = {"group": 2, "dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 2, 3]}
    sums = _run("ConvInteger", [x, w, x_zero, w_zeros], **attributes)
    assert sums.dtype == np.int32
    np.testing.assert_array_equal(sums, exact)
    one, y_zero = np.array(1, np.float32), np.array(100, np.uint8)
    scale = np.array(256, np.float32)
    b = np.arange(-3, 3, dtype=np.int32) * 1000
    y = _run("QLinearConv", [x, one, x_zero, w, one, w_zeros, scale, y_zero, b], **attributes)
    total = exact.astype(np.float64) + b.reshape(-1, 1, 1)
    np.testing.assert_array_equal(y, np.clip(np.rint(total / 256) + 100, 0, 255))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"kernel_shape": [2, 2]}, "kernel_shape: expected (3, 3), as W has it, got (2, 2)"),
        ({"pads": [1, 1]}, "pads: expected 4 values for 2 spatial axes, got [1, 1]"),
        ({"auto_pad": "SAME"}, "auto_pad: expected NOTSET, SAME_UPPER, SAME_LOWER, VALID, got 'SAME'"),
    ],
)
def test_errors_name_the_attribute(attributes, text):
    with pytest.raises(ValueError) as error:
        _run("Conv", [np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))], **attributes)
    assert str(error.value) == text
