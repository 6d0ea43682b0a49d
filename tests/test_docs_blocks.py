"""Blocks of pages that are no transcript run too: Python on data made for it, commands where they can."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import windrow as wr

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What is installed, started or measured elsewhere.
NOT_HERE = ("pip install", "dask scheduler", "dask worker", "python -m benchmarks")


def blocks(language):
    for page in PAGES:
        for number, (found, text) in enumerate(BLOCK.findall(page.read_text()), 1):
            if found == language and ">>>" not in text:
                yield pytest.param(page, text, id=f"{page.relative_to(ROOT)}-{number}")


def volume(folder):
    """The arrays and files that blocks of the adapters' pages speak of."""
    da = pytest.importorskip("dask.array")
    pytest.importorskip("zarr")
    x = da.from_array(np.random.default_rng(0).standard_normal((1, 1, 12, 12)), chunks=(1, 1, 5, 12))
    x.to_zarr(str(folder / "volume.zarr"))
    return {"w": np.ones((1, 1, 3, 3)), "dy": np.ones((1, 1, 12, 12))}


def onnx_model(folder):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xwy"]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "g", values[:2], values[2:])
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset), str(folder / "model.onnx"))
    return {}


def keras_model(folder):
    pytest.importorskip("ml_dtypes")  # Keras's own need; Keras itself is imported by the block
    save = (
        "import windrow.keras; windrow.keras.enable(); import keras; layers = keras.layers;"
        "keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3)]).save('model.keras')"
    )
    subprocess.run([sys.executable, "-c", save], cwd=folder, check=True, capture_output=True)
    return {"images": np.ones((2, 8, 8, 3), np.float32)}


def photo(folder):
    pytest.importorskip("scipy")
    image = np.random.default_rng(0).standard_normal((16, 16))
    kernel = np.full((3, 3), 1 / 9)
    blurred = wr.conv(image[None, None], kernel[None, None], padding="same")[0, 0]
    return {"photo": image, "kernel": kernel, "blurred": blurred}


def arrays(folder):
    pytest.importorskip("autograd")
    rng = np.random.default_rng(0)
    return {"x": rng.standard_normal((2, 3, 8, 8)), "w": rng.standard_normal((4, 3, 3, 3))}


def tensor(folder):
    torch = pytest.importorskip("torch")
    return {"volume": torch.arange(60.0).reshape(1, 1, 3, 4, 5)}


# By what a block imports: how its names come to be.
GIVEN = {
    "windrow.autograd": arrays,
    "windrow.dask": volume,
    "windrow.keras": keras_model,
    "windrow.onnx": onnx_model,
    "windrow.scipy": photo,
    "windrow.sklearn": lambda folder: pytest.importorskip("sklearn") and {},
    "windrow.torch": tensor,
    "dask.distributed": lambda folder: {},
}


@pytest.mark.parametrize(("page", "text"), list(blocks("python")))
def test_python_runs(page, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "wr": wr}
    makers = [make for module, make in GIVEN.items() if re.search(rf"^(from|import) {module}\b", text, re.M)]
    for make in makers:
        names |= make(tmp_path)
    if "windrow.keras" in text:
        monkeypatch.setenv("KERAS_BACKEND", "numpy")
    if "dask.distributed" in text:
        distributed = pytest.importorskip("distributed")
        with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster:
            address = cluster.scheduler_address
            exec(text.replace("tcp://SCHEDULER:8786", address), names)
            names["client"].close()
        return
    if page.name == "patches.md" and "import windrow" not in text:
        names |= {**before(page, text), "function": lambda tiles: tiles}
    exec(text, names)


def before(page, text):
    """The names that the page's blocks before this one bind."""
    names = {"np": np, "wr": wr}
    for found, other in BLOCK.findall(page.read_text()):
        if other == text:
            break
        if found == "python" and ">>>" not in other:
            exec(other, names)
    return names


@pytest.mark.parametrize(("page", "text"), list(blocks("sh")))
def test_commands_run(page, text, tmp_path):
    """Every `windrow` command; and whatever else a block has is known to be run elsewhere."""
    for line in text.replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        if not command:
            continue
        if command[0] == "windrow":
            program = [sys.executable, "-m", "windrow", *command[1:]]
            done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        else:
            assert any(word in line for word in NOT_HERE), line
