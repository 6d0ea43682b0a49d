"""How many threads a call uses; other threads, forks, signals and the end of the process in between."""

import functools
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import windrow as wr
from tests import programs
from tests.errors import raises
from windrow import _core

MIB = 2**20
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
no_races_after_fork = pytest.mark.skipif(
    "TSAN_OPTIONS" in os.environ, reason="the thread sanitizer ends a forked child that starts threads"
)
# Python 3.12 warns of every fork beside threads: ours is the case that must work.
forks = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = wr.get_num_threads()
    yield
    wr.set_num_threads(before)


# The number of threads


def test_the_number_is_of_the_process_and_num_threads_of_one_thread():
    wr.set_num_threads(3)
    seen = []

    def elsewhere():
        seen.append(wr.get_num_threads())
        with wr.num_threads(7):
            seen.append(wr.get_num_threads())
        seen.append(wr.get_num_threads())

    with wr.num_threads(2):
        assert wr.get_num_threads() == 2
        with wr.num_threads(5):
            assert wr.get_num_threads() == 5
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert wr.get_num_threads() == 2
        wr.set_num_threads(4)
        assert wr.get_num_threads() == 2
    assert wr.get_num_threads() == 4
    assert seen == [3, 7, 3]


def test_num_threads_ends_with_its_block_whatever_happens_in_it():
    before = wr.get_num_threads()
    with pytest.raises(ZeroDivisionError), wr.num_threads(before + 1):
        1 / 0  # noqa: B018
    assert wr.get_num_threads() == before


def test_any_number_from_one_up_is_fine():
    wr.set_num_threads(2**62)
    assert wr.get_num_threads() == 2**31 - 1
    x, w = operands()
    with wr.num_threads(np.int8(1)):
        expected = wr.conv(x, w)
    with wr.num_threads(500):
        np.testing.assert_array_equal(wr.conv(x, w), expected)


@pytest.mark.parametrize("call", [wr.set_num_threads, lambda n: wr.num_threads(n).__enter__()])
@pytest.mark.parametrize(
    ("n", "kind", "text"),
    [
        (0, ValueError, "n: expected at least 1, got 0"),
        (-3, ValueError, "n: expected at least 1, got -3"),
        (2.0, TypeError, "n: expected an int, got float: 2.0"),
        (True, TypeError, "n: expected an int, got bool: True"),
        ("2", TypeError, "n: expected an int, got str: '2'"),
        (None, TypeError, "n: expected an int, got NoneType: None"),
        ((2,), TypeError, "n: expected an int, got tuple: (2,)"),
    ],
)
def test_a_wrong_number(call, n, kind, text):
    before = wr.get_num_threads()
    raises(kind, text, call, n)
    assert wr.get_num_threads() == before


# The environment

SHOW_THREADS = "import windrow as wr; print(wr.get_num_threads())"


def test_the_default_is_what_the_process_may_use():
    cores = programs.output(SHOW_THREADS, WINDROW_NUM_THREADS=None)
    assert int(cores) == _core.usable_cores()
    if hasattr(os, "sched_setaffinity"):
        pinned = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" + SHOW_THREADS
        assert programs.output(pinned, WINDROW_NUM_THREADS=None) == "1"


@pytest.mark.parametrize(("value", "threads"), [("1", 1), ("7", 7), (" 3 ", 3), ("9" * 30, 2**31 - 1)])
def test_windrow_num_threads(value, threads):
    assert programs.output(SHOW_THREADS, WINDROW_NUM_THREADS=value) == str(threads)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "", "1 2"])
def test_windrow_num_threads_wrong(value):
    error = programs.last_error("import windrow", WINDROW_NUM_THREADS=value)
    assert error == f"ValueError: WINDROW_NUM_THREADS: expected an int of at least 1, got {value!r}"


@pytest.mark.parametrize("name", _core.targets_available())
def test_windrow_target(name):
    show = "import windrow as wr; print(wr.show_config('dict')['target'])"
    assert programs.output(show, WINDROW_TARGET=name) == name


@pytest.mark.parametrize("name", ["x86-64", "PORTABLE", "neon " * 3])
def test_windrow_target_wrong(name):
    error = programs.last_error("import windrow", WINDROW_TARGET=name)
    available = ", ".join(_core.targets_available())
    assert error == (
        "ValueError: WINDROW_TARGET: expected one of the targets that this machine can run "
        f"({available}), got '{name}'"
    )


def test_windrow_algorithm():
    call = "import numpy as np, windrow as wr; print(wr.conv(np.ones((1, 1, 3)), np.ones((1, 1, 3))).item())"
    assert programs.output(call, WINDROW_ALGORITHM="direct") == "3.0"
    error = programs.last_error("import windrow", WINDROW_ALGORITHM="fft")
    names = " or ".join(map(repr, wr.convolution.ALGORITHMS))
    assert error == f"ValueError: WINDROW_ALGORITHM: expected {names}, got 'fft'"


# Several threads of Python


@functools.cache
def operands():
    rng = np.random.default_rng(7)
    return rng.standard_normal((4, 12, 30, 31)).astype(np.float32), rng.standard_normal(
        (20, 12, 3, 3)
    ).astype(np.float32)


def everything(threads):
    """All four results, as bytes."""
    x, w = operands()
    with wr.num_threads(threads):
        y = wr.conv(x, w, padding=1)
        return [array.tobytes() for array in (y, *wr.conv_backward(y, x, w, padding=1))]


def test_sixteen_threads_at_once():
    expected = everything(1)
    start = threading.Barrier(16)

    def work(i):
        start.wait()
        return all(everything(1 + (i + j) % 4) == expected for j in range(6))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_release_while_others_compute():
    expected = everything(1)
    stop = threading.Event()

    def release():
        while not stop.is_set():
            wr.release_workspaces()
            assert _core.workspace_bytes() >= 0

    with ThreadPoolExecutor(5) as pool:
        releasing = pool.submit(release)
        computing = [pool.submit(everything, 1 + i % 3) for i in range(24)]
        try:
            assert all(results.result() == expected for results in computing)
        finally:
            stop.set()
        releasing.result()


def test_threads_that_end_give_their_workspace_back():
    wr.release_workspaces()
    for _ in range(3):
        thread = threading.Thread(target=everything, args=(1,))
        thread.start()
        thread.join()
    end = time.monotonic() + 10  # Python's join does not wait for the very end of a thread
    while _core.workspace_bytes() and time.monotonic() < end:
        time.sleep(0.01)
    assert _core.workspace_bytes() == 0


def test_an_error_leaves_everything_usable():
    expected = everything(2)
    x, w = operands()
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^max_workspace: "), wr.num_threads(2):
            wr.conv(x, w, max_workspace=1)
    assert everything(2) == expected


# Processes


def child_results(results):
    results.put(everything(2))


@forks
@no_races_after_fork
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_compute(method):
    expected = everything(2)  # the parent's pool exists by now
    context = multiprocessing.get_context(method)
    results = context.Queue()
    child = context.Process(target=child_results, args=(results,))
    child.start()
    assert results.get(timeout=60) == expected
    child.join(60)
    assert child.exitcode == 0
    assert everything(2) == expected


@needs_fork
@forks
@no_races_after_fork
def test_fork_while_other_threads_compute():
    """Children of a process whose pool and workspaces are in use at that moment; and their children."""
    expected = everything(1)
    stop = threading.Event()

    def keep_busy():
        while not stop.is_set():
            everything(2)
            wr.release_workspaces()

    busy = [threading.Thread(target=keep_busy) for _ in range(3)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(12):
            child = os.fork()
            if child == 0:
                status = 3
                try:
                    same = everything(2) == expected
                    wr.release_workspaces()
                    grandchild = os.fork()
                    if grandchild == 0:
                        os._exit(0 if everything(2) == expected else 1)
                    same = same and os.waitpid(grandchild, 0)[1] == 0
                    status = 0 if same else 1
                finally:
                    os._exit(status)
            assert wait_for(child) == 0
    finally:
        stop.set()
        for thread in busy:
            thread.join()


def wait_for(child, seconds=30):
    """The exit status of a child; one that hangs is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


COMPUTE_AND_LEAVE = """
import sys, threading, time
import numpy as np, windrow as wr
x, w = np.ones((2, 64, 64, 64), np.float32), np.ones((64, 64, 3, 3), np.float32)
started = threading.Event()
def work():
    while True:
        wr.conv(x, w)
        started.set()
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
started.wait()
time.sleep(SECONDS)
print("done")
"""


@pytest.mark.parametrize("seconds", [0, 0.005, 0.03])
def test_the_process_ends_while_threads_compute(seconds):
    assert programs.output(COMPUTE_AND_LEAVE.replace("SECONDS", str(seconds))) == "done"


# Signals and the GIL

INTERRUPT = """
import os, signal, sys, threading, time
import numpy as np, windrow as wr
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
wr.set_num_threads(THREADS)
def wide(*shape):
    return np.broadcast_to(np.float32(1), shape)  # calls of twenty seconds and more that need little memory
x, w, y = wide(256, 64, 96, 96), wide(64, 64, 9, 9), wide(256, 64, 88, 88)
thick = wide(16, 1024, 96, 96), wide(64, 1024, 9, 9), wide(1024, 64, 9, 9), wide(16, 1024, 88, 88)
calls = {
    "conv": lambda: wr.conv(thick[0], thick[1]),
    "conv_grad_input": lambda: wr.conv_grad_input(thick[3], thick[2], (16, 64, 96, 96)),
    "conv_grad_weight": lambda: wr.conv_grad_weight(y, x, w.shape),
}
def send(sent):
    time.sleep(0.2)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
waited = []
for attempt in range(3):  # other programs on the machine may delay one, or another
    sent = []
    threading.Thread(target=send, args=(sent,)).start()
    try:
        calls[CALL]()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit("the call ended before it was interrupted" if sent else "the call ended before the signal")
    except KeyboardInterrupt:
        waited.append(time.monotonic() - sent[0])
print(min(waited))
x = np.ones((2, 8, 40, 40)); w = np.ones((8, 8, 3, 3))
print((wr.conv(x, w) == 72).all(), wr.get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("call", ["conv", "conv_grad_input", "conv_grad_weight"])
def test_ctrl_c(call, threads):
    """KeyboardInterrupt comes promptly, and the library goes on working."""
    source = INTERRUPT.replace("THREADS", str(threads)).replace("CALL", repr(call))
    waited, works, count = programs.output(source).split()
    assert float(waited) < programs.PROMPT
    assert (works, count) == ("True", str(threads))


def test_ctrl_c_is_heard_between_many_short_products():
    """Windows that overlap under a stride of 1500 in two axes make two million products of microseconds."""
    call = "wr.conv_grad_input(wide(1, 4, 2, 2), wide(4, 1, 1501, 1501), (1, 1, 3001, 3001), stride=1500)"
    source = INTERRUPT.replace("THREADS", "2").replace("calls[CALL]()", call)
    assert float(programs.output(source).split()[0]) < programs.PROMPT


def test_workers_take_no_signals():
    """A signal goes to the threads of the program, which may be waiting for it."""
    source = """
import os, signal, threading
import numpy as np, windrow as wr
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
wr.set_num_threads(4)
wr.conv(np.ones((8, 16, 40, 40)), np.ones((16, 16, 3, 3)))
masks = [line.split()[1] for tid in os.listdir("/proc/self/task")
         for line in open(f"/proc/self/task/{tid}/status") if line.startswith("SigBlk")]
print(len(masks), sum(int(mask, 16) >> (signal.SIGUSR2 - 1) & 1 for mask in masks))
"""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("needs /proc")
    threads, blocked = map(int, programs.output(source).split())
    assert blocked >= 1
    assert threads - blocked >= 1


def test_other_python_threads_go_on_during_a_call():
    x, w = np.ones((8, 64, 56, 56), np.float32), np.ones((256, 64, 3, 3), np.float32)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        with wr.num_threads(1):
            begin = time.monotonic()
            wr.conv(x, w)
            length = time.monotonic() - begin
    finally:
        stop.set()
        ticking.join()
    middle = [t for t in ticks if begin + length / 4 < t < begin + length * 3 / 4]
    assert len(middle) > 2, f"none in half of {length} s"


# Workspaces


def call_workspace(call):
    """What a call from rest holds when it is over, which is all that it ever took."""
    wr.release_workspaces()
    assert _core.workspace_bytes() == 0
    call()
    return _core.workspace_bytes()


@pytest.mark.parametrize(
    ("x_shape", "filters", "padding"),
    [((8, 64, 224, 224), 32, 1), ((8, 512, 14, 14), 512, 1)],
    ids=["224", "14"],
)
def test_workspace_is_bounded(x_shape, filters, padding):
    """Promise 6, where the columns would be 882 MiB and 28 MiB."""
    threads = 2
    rng = np.random.default_rng(0)
    x = rng.random(x_shape, np.float32)
    w = rng.random((filters, x_shape[1], 3, 3), np.float32)
    weights = 4 * w.nbytes  # one transformed copy
    with wr.num_threads(threads):
        y = wr.conv(x, w, padding=padding)
        dx, dw = np.empty_like(x), np.empty_like(w)
        for call, more in [
            (lambda: wr.conv(x, w, padding=padding, out=y), weights),
            (lambda: wr.conv_grad_input(y, w, x.shape, padding=padding, out=dx), weights),
            (lambda: wr.conv_grad_weight(y, x, w.shape, padding=padding, out=dw), 32 * MIB),
        ]:
            held = call_workspace(call)
            assert held <= threads * 8 * MIB + more
            assert held <= 64 * MIB


def test_workspace_does_not_grow_with_the_batch_nor_with_use():
    x, w = np.ones((1, 16, 40, 40)), np.ones((16, 16, 3, 3))
    with wr.num_threads(1):
        one = call_workspace(lambda: wr.conv(x, w))
        many = call_workspace(lambda: wr.conv(np.concatenate([x] * 16), w))
        assert many <= one + 2 * MIB
        for size in range(20, 60):
            wr.conv_grad_weight(np.ones((1, size, 40, 40)), np.ones((1, size, 40, 40)), (size, size, 1, 1))
        wr.conv(x, w)
        assert _core.workspace_bytes() <= 8 * MIB + 32 * MIB


def test_a_call_that_took_several_blocks_leaves_none():
    """The next one gets a single block of the size that was needed."""
    x, w = np.ones((1, 64, 56, 56), np.float32), np.ones((64, 64, 3, 3), np.float32)
    with wr.num_threads(1):
        assert call_workspace(lambda: wr.conv_grad_weight(x, x, w.shape, padding=1)) == 0
        wr.conv_grad_weight(x, x, w.shape, padding=1)
        assert 0 < _core.workspace_bytes() <= 8 * MIB


@pytest.mark.skipif(programs.SANITIZED, reason="sanitizers need the address space that is taken away here")
def test_refused_scratch_memory_is_a_memory_error():
    source = """
import resource
import numpy as np, windrow as wr
x, w = np.ones((1, 64, 100, 100)), np.ones((64, 64, 3, 3))
y = wr.conv(x, w, out=None)
wr.release_workspaces()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
try:
    wr.conv(x, w, out=y)
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print((abs(wr.conv(x, w) - 576) < 1e-9).all())
"""
    if not os.path.isfile("/proc/self/statm"):
        pytest.skip("needs /proc")
    *refusal, works = programs.output(source, WINDROW_NUM_THREADS="1").splitlines()
    assert works == "True"
    for text in refusal:  # the heap may have had room enough
        assert text.startswith("max_workspace: cannot allocate ")
        assert text.endswith(" bytes of scratch memory")
