"""Pools of processes and threads that others make, the end of the interpreter, subinterpreters, limits."""

import concurrent.futures
import multiprocessing
import os
import sys

import numpy as np
import pytest

import windrow as wr
from tests import programs

forks = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")


def results(seed):
    """All that a layer computes, as bytes."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((2, 8, 20, 21)), rng.standard_normal((12, 8, 3, 3))
    with wr.num_threads(2):
        y = wr.conv(x, w, padding=1)
        columns = wr.unfold(x, 3)
        folded = wr.fold(columns, (20, 21), 3)
        return [array.tobytes() for array in (y, *wr.conv_backward(y, x, w, padding=1), columns, folded)]


@forks
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_process_pool(method):
    expected = [results(seed) for seed in range(4)]  # the parent's threads exist by now
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(results, range(4), timeout=100)) == expected


def test_a_thread_pool_within_a_pool_of_threads():
    expected = [results(seed) for seed in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(results, range(4))) == expected


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend):
    joblib = pytest.importorskip("joblib")
    expected = [results(seed) for seed in range(3)]
    found = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(results)(seed) for seed in range(3))
    assert found == expected
    if backend == "loky":
        joblib.externals.loky.get_reusable_executor().shutdown()


AT_EXIT = """
import atexit, threading
import numpy as np, windrow as wr
x, w = np.ones((4, 15, 40, 40)), np.ones((16, 15, 3, 3))
wr.set_num_threads(3)
wr.conv(x, w)
atexit.register(lambda: print((wr.conv(x, w) == 135).all(), flush=True))
class Late:
    def __del__(self):
        print((wr.conv(x, w, algorithm="direct") == 135).all(), flush=True)
late = Late()
threading.Thread(target=lambda: [wr.conv(x, w) for _ in range(20)]).start()  # the interpreter waits for it
"""


def test_calls_at_the_end_of_the_interpreter():
    """By atexit, in a destructor, and while a thread that is no daemon goes on."""
    assert programs.output(AT_EXIT).split() == ["True", "True"]


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import windrow
PROGRAM = '''
import warnings
warnings.simplefilter("ignore")
try:
    import windrow
except ImportError as error:
    print(error, flush=True)
else:
    print("imported", flush=True)
'''
interpreters.run_string(interpreters.create(), PROGRAM)
print(windrow.conv([[[2.0]]], [[[3.0]]]).item())
"""


def test_a_subinterpreter_is_refused():
    if sys.version_info >= (3, 13):
        pytest.importorskip("_interpreters")
    else:
        pytest.importorskip("_xxsubinterpreters")
    done = programs.run(SUBINTERPRETER)
    assert done.returncode == 0, done.stderr
    refusal, works = done.stdout.splitlines()
    if sys.version_info < (3, 12):
        assert refusal == "windrow: expected the main interpreter of the process, got a subinterpreter"
    else:  # or by Python itself, since the extension declares it
        assert "windrow" in refusal
    assert works == "6.0"


def test_threadpoolctl():
    pytest.importorskip("threadpoolctl")
    source = """
import numpy as np, windrow as wr, windrow.threadpoolctl
from threadpoolctl import threadpool_info, threadpool_limits
wr.set_num_threads(5)
mine = [library for library in threadpool_info() if library["user_api"] == "windrow"]
print(len(mine), mine[0]["num_threads"], mine[0]["version"] == wr.__version__)
with threadpool_limits(limits=2):
    print(wr.get_num_threads())
    with wr.num_threads(3):
        print(wr.get_num_threads())
with threadpool_limits(limits={"windrow": 1}):
    print(wr.get_num_threads())
with threadpool_limits(limits=1, user_api="blas"):
    print(wr.get_num_threads())
print(wr.get_num_threads())
"""
    assert programs.output(source).split() == ["1", "5", "True", "2", "3", "1", "5", "5"]


def test_threadpoolctl_leaves_others_of_the_same_file_name_alone(tmp_path):
    """Another package's extension may be called _core too."""
    pytest.importorskip("threadpoolctl")
    source = f"""
import shutil, ctypes, os, windrow as wr, windrow.threadpoolctl
from windrow import _core
from threadpoolctl import threadpool_info
other = os.path.join({str(tmp_path)!r}, os.path.basename(_core.__file__))
shutil.copy(_core.__file__, other)
try:
    ctypes.PyDLL(other)
except OSError:
    pass
print([library["filepath"] == os.path.realpath(_core.__file__) for library in threadpool_info()
       if library["user_api"] == "windrow"])
"""
    assert programs.output(source) == "[True]"


FOLD_INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np, windrow as wr
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
wr.set_num_threads(2)
cols = np.broadcast_to(np.float32(1), (48, 8 * 21**2, 236**2))  # over five seconds a call
def send(sent):
    time.sleep(0.1)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
waited = []
for attempt in range(3):  # other programs on the machine may delay one, or another
    sent = []
    threading.Thread(target=send, args=(sent,)).start()
    try:
        wr.fold(cols, (256, 256), 21)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit("the call ended before it was interrupted" if sent else "the call ended before the signal")
    except KeyboardInterrupt:
        waited.append(time.monotonic() - sent[0])
print(min(waited))
print((wr.fold(np.ones((1, 9, 4)), (4, 4), 3) <= 9).all())
"""


def test_ctrl_c_in_fold():
    waited, works = programs.output(FOLD_INTERRUPTED).split()
    assert float(waited) < programs.PROMPT
    assert works == "True"


FORKED_BY_A_THREAD = """
import os, signal, sys, threading, time
import numpy as np, windrow as wr
signal.signal(signal.SIGINT, signal.default_int_handler)
cols = np.broadcast_to(np.float32(1), (48, 8 * 21**2, 236**2))  # over five seconds a call
def fork():
    child = os.fork()
    if child == 0:  # where this thread is the main one
        try:
            wr.fold(cols, (256, 256), 21)
        except KeyboardInterrupt:
            os._exit(42)
        os._exit(1)
    time.sleep(0.5)
    os.kill(child, signal.SIGINT)
    sent = time.monotonic()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), time.monotonic() - sent)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_ctrl_c_in_the_child_of_a_thread():
    status, waited = programs.output(FORKED_BY_A_THREAD).split()
    assert status == "42"
    assert float(waited) < programs.PROMPT


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="this Python cannot run without its lock")
def test_the_lock_stays_off():
    """Free threading is declared: importing windrow does not bring the lock back."""
    show = "import sys, windrow; print(sys._is_gil_enabled())"
    assert programs.output(show, PYTHON_GIL=None) == str(bool(sys._is_gil_enabled()))
