"""The ways in which a product over windows can be computed: same bits by each, and the choice among them."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given

import windrow as wr
from tests.choice import CANDIDATES, DIRECT, only
from tests.examples import per_target
from tests.problems import channels_last, problems, scrambled
from windrow import reference

LAYER = (2, 40, 28, 28), (96, 40, 3, 3)  # terms few enough for the strips of every target


@per_target(60)
@given(
    problem=problems(max_channels=40),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_direct_sums_have_the_same_bits(target, problem, dtype, seed):
    """Whatever the choice takes: it may go by format, batch and threads."""
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in (problem.x_shape, problem.w_shape))
    dy = rng.standard_normal(problem.y_shape).astype(dtype)
    change = (lambda a: a, channels_last, lambda a: scrambled(rng, a))[seed % 3]
    results = {}
    for name in DIRECT:
        with only(name):
            plan = wr.explain("conv", problem.x_shape, problem.w_shape, dtype=dtype, **problem.options)
            event(f"{name}: {plan['kernel']}")
            y, dx = change(np.full_like(dy, np.nan)), change(np.full_like(x, np.nan))
            wr.conv(change(x), change(w), out=y, **problem.options)
            wr.conv_grad_input(change(dy), change(w), x.shape, out=dx, **problem.options)
            results[name] = np.ascontiguousarray(y).tobytes(), np.ascontiguousarray(dx).tobytes()
    assert len(set(results.values())) == 1


# Few rows of many terms: a strip of some channels at a time, and all pixels before the next chunk of terms.
# The last ones are read in place, but for what no whole vector holds.
STRIPS = [
    ((2, 150, 20, 23), (3, 150, 3, 3), {"padding": 1}),
    ((1, 140, 300), (2, 140, 15), {"padding": ((3, 9),)}),
    ((2, 260, 17, 40), (4, 130, 3, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((1, 200, 9, 8), (8, 200, 5, 5), {"padding": 2, "padding_mode": "reflect"}),
    ((1, 135, 6, 7, 30), (5, 135, 3, 3, 3), {"dilation": (1, 2, 1)}),
    ((3, 1100, 4, 5), (5, 1100, 1, 1), {}),
    ((2, 20, 9, 7), (40, 20, 1, 1), {}),
    ((1, 24, 61, 37), (10, 12, 1, 1), {"groups": 2}),
    ((2, 70, 2, 2), (3, 70, 1, 1), {}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), STRIPS)
def test_strips_of_either_kind_have_the_same_bits(target, x_shape, w_shape, options, change, dtype):
    rng = np.random.default_rng(3)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))
    sizes = {name: value for name, value in options.items() if name != "padding_mode"}
    results = []
    for name in ("window_product", "strip_product"):
        with only(name):
            assert wr.explain("conv", x_shape, w_shape, dtype=dtype, **sizes)["kernel"] == name
            y = change(np.full_like(wr.conv(x, w, **options), np.nan))
            wr.conv(change(x), w, b, out=y, **options)
            limited = wr.prepare_conv(w, b, activation="relu", **options)(change(x))
        results.append([np.ascontiguousarray(a).tobytes() for a in (y, limited)])
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_rows_are_added_to_what_is_there(target, dtype):
    rng = np.random.default_rng(5)
    x_shape, w_shape, dy_shape = (2, 3, 21, 40), (150, 3, 4, 3), (2, 150, 20, 40)
    dy, w, there = (rng.standard_normal(shape).astype(dtype) for shape in (dy_shape, w_shape, x_shape))
    results = []
    for name in ("window_product", "strip_product"):
        with only(name):
            results.append(
                wr.conv_grad_input(dy, w, x_shape, padding=1, out=there.copy(), accumulate=True).tobytes()
            )
    assert results[0] == results[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
def test_each_can_be_asked_for(target, dtype, memory_format):
    plans = {}
    for name in CANDIDATES:
        with only(name):
            plans[name] = wr.explain("conv", *LAYER, dtype=dtype, padding=1, memory_format=memory_format)
    assert {name: plan["kernel"] for name, plan in plans.items()} == {name: name for name in CANDIDATES}
    assert all(set(plan["candidates"]) == set(CANDIDATES) for plan in plans.values())


@pytest.mark.parametrize("name", ["winograd_2x2", "winograd_4x4"])
def test_tiles_of_either_size_are_right(target, name):
    rng = np.random.default_rng(4)
    x, w = (rng.standard_normal(shape) for shape in LAYER)
    with only(name):
        roundings = wr.explain("conv", *LAYER, dtype=np.float64, padding=1)["roundings"]
        y = wr.conv(x, w, padding=1)
    # The transforms of 4 x 4 tiles enlarge magnitudes by up to 100 (docs/numerics.md).
    bound = 100 * roundings * np.finfo(np.float64).eps * reference.conv(np.abs(x), np.abs(w), padding=1).max()
    np.testing.assert_allclose(y, reference.conv(x, w, padding=1), rtol=0, atol=bound)


@pytest.mark.parametrize("operation", ["conv", "conv_grad_input"])
@pytest.mark.parametrize("memory_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "padding"),
    [
        ((1, 64, 56, 56), (64, 64, 3, 3), 1),
        ((1, 256, 14, 14), (1024, 256, 1, 1), 0),
        ((1, 1024, 7, 7), (256, 1024, 1, 1), 0),
        ((1, 3, 224, 224), (32, 3, 3, 3), 1),
        ((1, 64, 16, 24, 24), (32, 64, 3, 3, 3), 1),
    ],
)
def test_the_fastest_direct_sum_is_taken(operation, memory_format, x_shape, w_shape, padding):
    plan = wr.explain(
        operation, x_shape, w_shape, padding=padding, algorithm="direct", memory_format=memory_format,
        threads=1,
    )  # fmt: skip
    direct = {name: seconds for name, seconds in plan["candidates"].items() if name in DIRECT}
    assert plan["kernel"] == min(direct, key=direct.get)
    assert all(1e-6 < seconds < 10 for seconds in plan["candidates"].values())


def test_predictions_are_for_one_image():
    """What decides about bits must not see the batch."""
    x_shape, w_shape = LAYER
    one, many = (wr.explain("conv", (n, *x_shape[1:]), w_shape, padding=1) for n in (1, 7))
    assert one["candidates"] == many["candidates"]


@pytest.mark.parametrize(
    ("operation", "w_shape", "options"),
    [
        ("conv_grad_weight", (96, 64, 5, 5), {}),
        ("conv_grad_input", (96, 64, 3, 3), {"stride": 2}),  # a product for each phase
        ("conv", (64, 1, 3, 3), {"groups": 64, "memory_format": "channels_last"}),
    ],
)
def test_a_pass_with_one_way_lists_none(operation, w_shape, options):
    plan = wr.explain(operation, (1, 64, 28, 28), w_shape, **options)
    assert plan["candidates"] == {}
    assert "candidates" not in str(plan)


def test_the_plan_lists_the_fastest_first():
    plan = wr.explain("conv", *LAYER, padding=1)
    (line,) = [line for line in str(plan).splitlines() if line.startswith("candidates")]
    names = [part.split()[0] for part in line.removeprefix("candidates").split(",")]
    assert names == sorted(plan["candidates"], key=plan["candidates"].get)
    assert line.endswith("ms predicted for one image on one thread")


def test_threads_have_as_many_pieces_as_each_other(target):
    """Where some number of panels for each piece gives that: in most images, not in about half of them."""
    options = {"dtype": np.float32, "stride": 2, "padding": 1, "threads": 2}
    plans = [
        wr.explain("conv_grad_input", (1, 128, size, size), (128, 128, 3, 3), **options)
        for size in range(40, 64)
    ]
    assert {plan["kernel"] for plan in plans} == {"phase_product"}
    assert sum(plan["pieces"] % 2 == 0 for plan in plans) >= 21
