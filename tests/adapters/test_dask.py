"""`windrow.dask`: any chunks give what one piece gives, to the bit where no summed axis is cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("dask.array")

import dask
import dask.array as da
from dask.order import order

import windrow as wr
from tests import tolerances
from tests.strategies import problems
from windrow import dask as wd


@st.composite
def chunked(draw, shape, whole=()):
    """Chunks of every axis but those of `whole`."""
    chunks = []
    for axis, size in enumerate(shape):
        seams = [] if axis in whole or size < 2 else draw(st.lists(st.integers(1, size - 1), max_size=3))
        ends = sorted({0, size, *seams})
        chunks.append(tuple(b - a for a, b in pairwise(ends)) or (0,))
    return tuple(chunks)


def _options(problem):
    return {**problem.geometry, "groups": problem.groups}


def _array(rng, shape, integers):
    return rng.integers(-4, 5, shape).astype(np.float64) if integers else rng.standard_normal(shape)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), data=st.data(), integers=st.booleans())
def test_any_chunks(problem, data, integers):
    rng, options = problem.rng(), _options(problem)
    x, w = _array(rng, problem.x_shape, integers), _array(rng, problem.w_shape, integers)
    b = _array(rng, problem.filters, integers)
    y = wr.conv(x, w, b, algorithm="direct", **options)
    dy = _array(rng, y.shape, integers)
    # Integers: sums are exact in any order. Else only axes are cut that are not summed over.
    whole = () if integers else (1,)
    lazy_x = da.from_array(x, chunks=data.draw(chunked(x.shape, whole)))
    lazy_dy = da.from_array(dy, chunks=data.draw(chunked(y.shape, whole)))
    with dask.config.set(scheduler="synchronous"):
        assert np.array_equal(
            wd.conv(lazy_x, w, **options).compute(), wr.conv(x, w, algorithm="direct", **options)
        )
        dx, dw, db = dask.compute(*wd.conv_backward(lazy_dy, lazy_x, w, **options))
        wanted = wr.conv_backward(dy, x, w, algorithm="direct", **options)
        assert np.array_equal(dx, wanted.dx)
        if integers:
            assert np.array_equal(wd.conv(lazy_x, w, b, **options).compute(), y)
            assert np.array_equal(dw, wanted.dw)
            assert np.array_equal(db, wanted.db)
        else:
            # Summed in other parts: a plain sum of all terms is the weakest of them.
            terms = max(1, dy.size // max(1, dy.shape[1]))
            bound = tolerances.conv_grad_weight_error_bound(
                dy, x, w.shape, roundings=2 * (terms + 1), **options
            )
            assert np.all(np.abs(dw - wanted.dw) <= bound)


MODES = st.sampled_from(["reflect", "edge", "wrap", "constant"])


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    problem=problems(),
    data=st.data(),
    fill=st.sampled_from([0, -2.5, np.nan]),
    mode=MODES,
    dtype=st.sampled_from([np.float16, np.float64, np.complex64]),
)
def test_patches_of_any_chunks(problem, data, fill, mode, dtype):
    x = problem.rng().standard_normal((2, *problem.x_shape))
    x = (x[0] + 1j * x[1] if dtype == np.complex64 else x[0]).astype(dtype)
    rank = x.ndim - 2
    options = {**problem.geometry, "padding_mode": mode}
    fill = fill if mode == "constant" else 0
    layout = " ".join(["n", "c", *(f"k{i}" for i in range(rank)), *(f"l{i}" for i in range(rank))])
    with dask.config.set(scheduler="synchronous"):
        lazy = da.from_array(x, chunks=data.draw(chunked(x.shape)))
        cols = wd.unfold(lazy, problem.kernel, fill=fill, **options)
        wanted = wr.unfold(x, problem.kernel, layout=layout, fill=fill, **options)
        np.testing.assert_array_equal(cols.compute(), wanted, strict=True)
        again = da.from_array(wanted, chunks=data.draw(chunked(wanted.shape)))
        for reduce in ("sum", "mean"):
            back = wd.fold(again, x.shape[2:], problem.kernel, reduce=reduce, **options).compute()
            whole = wr.col2im(wanted, x.shape, problem.kernel, layout=layout, reduce=reduce, **options)
            np.testing.assert_array_equal(back, whole, strict=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    problem=problems(),
    data=st.data(),
    ceil_mode=st.booleans(),
    include=st.booleans(),
    special=st.booleans(),
    mode=st.one_of(st.none(), MODES),
)
def test_pools_of_any_chunks(problem, data, ceil_mode, include, special, mode):
    rng = problem.rng()
    x = rng.integers(-3, 3, problem.x_shape) / 8  # with ties
    if special:
        x = rng.choice([-np.inf, -0.0, 0.0, np.nan, 1.0], problem.x_shape)
    border = {"padding_mode": mode, "fill": 0.25 if mode == "constant" else 0}
    options = {**problem.geometry, "ceil_mode": ceil_mode, **border}
    means = {**options, "count_include_pad": include}
    y, indices = wr.max_pool_with_indices(x, problem.kernel, **options)
    dy = rng.standard_normal(y.shape)
    with dask.config.set(scheduler="synchronous"):
        lazy = da.from_array(x, chunks=data.draw(chunked(x.shape)))
        pairs = [
            (wd.max_pool(lazy, problem.kernel, **options), y),
            *zip(wd.max_pool_with_indices(lazy, problem.kernel, **options), (y, indices)),
            (wd.avg_pool(lazy, problem.kernel, **means), wr.avg_pool(x, problem.kernel, **means)),
            (wd.lp_pool(lazy, problem.kernel, 3, **options), wr.lp_pool(x, problem.kernel, 3, **options)),
            (wd.global_max_pool(lazy), wr.global_max_pool(x)),
            *zip(wd.global_max_pool_with_indices(lazy), wr.global_max_pool_with_indices(x)),
        ]
        chunks = data.draw(chunked(y.shape))
        lazy_dy, lazy_indices = da.from_array(dy, chunks=chunks), da.from_array(indices, chunks=chunks)
        back = wd.max_pool_backward(lazy_dy, lazy_indices, x.shape, problem.kernel, **options)
        pairs += [
            (back, wr.max_pool_backward(dy, indices, x.shape)),
            (
                wd.avg_pool_backward(lazy_dy, x.shape, problem.kernel, **means),
                wr.avg_pool_backward(dy, x.shape, problem.kernel, **means),
            ),
            *(
                (
                    wd.lp_pool_backward(lazy_dy, lazy, problem.kernel, p, **options),
                    wr.lp_pool_backward(dy, x, problem.kernel, p, **options),
                )
                for p in (1, 2, np.inf)
            ),
        ]
        for lazily, wanted in pairs:
            np.testing.assert_array_equal(lazily.compute(), wanted, strict=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), data=st.data())
def test_global_pools_of_any_chunks(problem, data):
    rng, shape = problem.rng(), problem.x_shape
    x = rng.integers(-64, 64, shape) / 8  # sums are exact
    dy = rng.integers(-64, 64, (*shape[:2], *(1 for _ in shape[2:]))).astype(float)
    indices = wr.global_max_pool_with_indices(x).indices
    with dask.config.set(scheduler="synchronous"):
        lazy = da.from_array(x, chunks=data.draw(chunked(shape)))
        chunks = data.draw(chunked(dy.shape))
        lazy_dy, lazy_indices = da.from_array(dy, chunks=chunks), da.from_array(indices, chunks=chunks)
        sizes = lazy.chunks[2:]
        back = wd.global_avg_pool_backward(lazy_dy, shape, chunks=sizes)
        max_back = wd.global_max_pool_backward(lazy_dy, lazy_indices, shape, chunks=sizes)
        assert back.chunks == max_back.chunks == (*chunks[:2], *sizes)
        for lazily, wanted in [
            (wd.global_avg_pool(lazy), wr.global_avg_pool(x)),
            (back, wr.global_avg_pool_backward(dy, shape)),
            (max_back, wr.global_max_pool_backward(dy, indices, shape)),
        ]:
            np.testing.assert_array_equal(lazily.compute(), wanted, strict=True)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems(), data=st.data(), mode=MODES)
def test_borders_of_any_chunks(problem, data, mode):
    rng = problem.rng()
    options = {**_options(problem), "padding_mode": mode, "fill": 3 if mode == "constant" else 0}
    # Images and space are cut, which are not summed over; but for dw, whose terms are whole numbers.
    x, w = rng.standard_normal(problem.x_shape), rng.integers(-4, 5, problem.w_shape).astype(float)
    y = wr.conv(x, w, algorithm="direct", **options)
    dy = rng.standard_normal(y.shape)
    whole_x, whole_dy = np.rint(8 * x), np.rint(8 * dy)
    x_chunks, y_chunks = data.draw(chunked(x.shape, (1,))), data.draw(chunked(y.shape, (1,)))
    with dask.config.set(scheduler="synchronous"):
        lazy_x, lazy_dy = da.from_array(x, chunks=x_chunks), da.from_array(dy, chunks=y_chunks)
        dw = wd.conv_grad_weight(
            da.from_array(whole_dy, chunks=y_chunks),
            da.from_array(whole_x, chunks=x_chunks),
            w.shape,
            **options,
        )
        for lazily, wanted in [
            (wd.conv(lazy_x, w, **options), y),
            (
                wd.conv_grad_input(lazy_dy, w, x.shape, **options),
                wr.conv_grad_input(dy, w, x.shape, algorithm="direct", **options),
            ),
            (dw, wr.conv_grad_weight(whole_dy, whole_x, w.shape, algorithm="direct", **options)),
        ]:
            np.testing.assert_array_equal(lazily.compute(), wanted, strict=True)


def test_a_block_reads_only_what_its_windows_see():
    """No chunk blow-up: the graph of one block of y holds the chunks under its windows and no more."""
    x = da.ones((1, 2, 1000, 1000), chunks=(1, 2, 100, 100))
    y = wd.conv(x, np.ones((3, 2, 3, 3)), padding=1)
    assert y.chunks[2:] == x.chunks[2:]
    block = y.blocks[0, 0, 4, 4]
    used = {key for key in dask.optimize(block)[0].__dask_graph__() if key[0] == x.name}
    assert len(used) <= 9
    tree = wd.conv_grad_weight(y, x, (3, 2, 3, 3), padding=1)
    assert tree.chunks == ((3,), (2,), (3,), (3,))


def most_held(array):
    """Chunks of the sources held at a time if its tasks run one after another in Dask's own order."""
    [array] = dask.optimize(array)
    tasks = dict(array.__dask_graph__())
    needs = {key: set(task.dependencies) for key, task in tasks.items()}
    left = dict.fromkeys(tasks, 0)
    for others in needs.values():
        for other in others:
            left[other] += 1
    held, most = set(), 0
    for key in sorted(tasks, key=order(tasks).get):
        if not needs[key]:
            held.add(key)
            most = max(most, len(held))
        for other in needs[key]:
            left[other] -= 1
            if not left[other]:
                held.discard(other)
    return most


def test_a_deeper_volume_needs_no_more_chunks_at_a_time():
    counts = []
    for depth in (40, 160):
        shape, chunks = (1, 1, depth, 16, 16), (1, 1, 4, 4, 4)
        x, dy = (da.random.default_rng(seed).random(shape, chunks=chunks) for seed in (0, 1))
        dw = wd.conv_grad_weight(dy, x, (1, 1, 3, 3, 3), padding=1)
        counts.append((most_held(wd.conv(x, np.ones((1, 1, 3, 3, 3)), padding=1)), most_held(dw)))
    (y_shallow, dw_shallow), (y_deep, dw_deep) = counts
    assert y_deep <= 1.5 * y_shallow
    assert dw_deep <= 1.5 * dw_shallow


def test_processes_and_larger_than_the_chunks(tmp_path):
    """From Zarr on disk, computed by worker processes, as on a cluster."""
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("zarr")
    x = np.random.default_rng(0).standard_normal((3, 2, 40, 50)).astype(np.float32)
    w = np.random.default_rng(1).standard_normal((4, 2, 3, 3)).astype(np.float32)
    da.from_array(x, chunks=(1, 2, 13, 20)).to_zarr(str(tmp_path / "x.zarr"))
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=None
    )
    with cluster, distributed.Client(cluster):
        lazy = da.from_zarr(str(tmp_path / "x.zarr"))
        y = wd.conv(lazy, w, stride=2, padding=1)
        assert np.array_equal(y.compute(), wr.conv(x, w, stride=2, padding=1, algorithm="direct"))
        dx, dw, _ = dask.compute(*wd.conv_backward(y, lazy, w, stride=2, padding=1))
    dy = wr.conv(x, w, stride=2, padding=1, algorithm="direct")
    wanted = wr.conv_backward(dy, x, w, stride=2, padding=1, algorithm="direct")
    assert np.array_equal(dx, wanted.dx)
    size = tolerances.conv_grad_weight_error_bound(
        dy, x, w.shape, roundings=2 * dy[:, 0].size, stride=2, padding=1
    )
    assert np.all(np.abs(dw - wanted.dw) <= size)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: wd.conv(np.ones((1, 1, 4)), np.ones((1, 1, 2))), TypeError,
         "x: expected a dask.array.Array, got ndarray"),
        (lambda: wd.fold(da.ones((1, 1, 2, 3)), (4,), 2, reduce="max"), ValueError,
         "reduce: expected 'sum' or 'mean', got 'max'"),
        (lambda: wd.fold(da.ones((1, 1, 2, 4)), (4,), 2), ValueError,
         "cols: expected shape (1, 1, 2, 3), got (1, 1, 2, 4)"),
        (lambda: wd.conv(da.ones((1, 1, 4)), np.ones((1, 1, 2)), padding_mode="mirror"), ValueError,
         "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got 'mirror'"),
        (lambda: wd.unfold(da.ones((1, 1, 4)), 2, padding_mode=None), ValueError,
         "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got None"),
        (lambda: wd.unfold(da.ones((1, 1, 4), dtype=int), 2, fill=0.5), TypeError,
         "fill: expected a value of dtype int64, got float: 0.5"),
        (lambda: wd.fold(da.ones((1, 1, 2, 3), dtype=int), (4,), 2, reduce="mean"), TypeError,
         "cols: expected floats or complex for reduce='mean', got int64; cast with cols.astype(np.float64)"),
        (lambda: wd.max_pool(da.ones((1, 1, 4)), 2, fill=3), ValueError,
         "padding_mode: expected 'constant', 'reflect', 'edge' or 'wrap', got None"),
        (lambda: wd.max_pool_backward(
            da.ones((1, 1, 2)), da.full((1, 1, 2), 4), (1, 1, 4), 2).compute(), ValueError,
         "indices: expected -1 to 3 for shape (1, 1, 4), got 4"),
        (lambda: wd.global_avg_pool_backward(da.ones((1, 1, 2)), (1, 1, 4)), ValueError,
         "dy: expected shape (1, 1, 1), got (1, 1, 2)"),
    ],
)  # fmt: skip
def test_errors(call, kind, text):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == text


def test_unknown_chunks_are_refused():
    x = da.ones((4, 1, 5), chunks=(2, 1, 5))
    x = x[x[:, 0, 0] > 0]
    with pytest.raises(ValueError) as error:
        wd.conv(x, np.ones((1, 1, 2)))
    assert str(error.value) == (
        "x: expected known chunk sizes, got (nan, 1, 5); call compute_chunk_sizes() first"
    )
