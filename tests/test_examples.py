"""The examples do what their texts say, and the demo leaves out what it cannot do."""

import subprocess
import sys

import numpy as np
import pytest

from windrow import cli
from windrow.gradcheck import numerical_vjp

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(cli.examples_folder()))
    return __import__


def test_digits_are_learned_to_98_percent(example):
    digits = example("digits")
    data = digits.load_digits()
    training = digits.train(data)
    assert len(data.test_x) == 449
    assert not {x.tobytes() for x in data.train_x} & {x.tobytes() for x in data.test_x}
    assert training.test_accuracy[-1] >= 0.98
    assert training.loss[-1] < training.loss[0] / 5


def test_digits_gradients_are_right(example):
    digits = example("digits")
    rng = np.random.default_rng(0)
    parameters = {name: value.astype(float) for name, value in digits.new_parameters(rng).items()}
    x, digit = rng.random((3, 1, 8, 8)), np.array([3, 1, 4])
    scores, cache = digits.forward(parameters, x)
    gradient = digits.backward(parameters, cache, digits.cross_entropy(scores, digit)[1])
    assert gradient.keys() == parameters.keys()
    for name, value in parameters.items():

        def loss(changed, name=name):
            return digits.cross_entropy(digits.forward({**parameters, name: changed}, x)[0], digit)[0]

        numerical = numerical_vjp(loss, value, 1.0, samples=20)
        asked = np.isfinite(numerical)
        # Central differences of a loss near 2: rounding eps / h, truncation h**2, with h = eps**(1/3).
        bound = 100 * np.finfo(float).eps ** (2 / 3)
        np.testing.assert_allclose(gradient[name][asked], numerical[asked], rtol=bound, atol=bound)


def test_digits_shifts_are_of_at_most_one_pixel(example):
    digits = example("digits")
    x = np.zeros((200, 1, 8, 8), np.float32)
    x[:, 0, 3, 4] = 1
    rows, columns = np.nonzero(digits.shifted(x, np.random.default_rng(0))[:, 0])[1:]
    assert len(rows) == len(x)
    assert set(rows) == {2, 3, 4}
    assert set(columns) == {3, 4, 5}


def test_photo_filters(example):
    photo = example("photo")
    flat = np.full((1, 3, 20, 30), 0.5, np.float32)
    tolerance = 19 * np.finfo(np.float32).eps  # the blur of reach 9 sums 19 weights twice
    np.testing.assert_allclose(photo.edges(flat), 0, atol=tolerance)
    np.testing.assert_allclose(photo.blur(flat), flat, atol=tolerance)
    np.testing.assert_allclose(photo.sharpen(flat), flat, atol=2 * tolerance)
    step = flat.copy()
    step[..., 15:] = 1
    across = photo.edges(step)
    assert set(np.nonzero(across.max(axis=0) > tolerance)[0]) == {14, 15}
    np.testing.assert_allclose(
        across[:, 14:16], 0.25, atol=tolerance
    )  # half of the step of 0.5, on both sides


def test_photo_writes_its_picture(example, tmp_path, monkeypatch, capsys):
    photo = example("photo")
    output = tmp_path / "photo.png"
    monkeypatch.setattr(sys, "argv", ["photo.py", "--output", str(output)])
    photo.main()
    assert capsys.readouterr().out == f"{output}\n"
    assert output.read_bytes().startswith(PNG)


def test_demo_ends_with_its_report(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    report = tmp_path / "report.png"
    assert cli.main(["demo", "--epochs", "1", "--output", str(report)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == str(report)
    assert report.read_bytes().startswith(PNG)


def test_demo_refuses_a_folder_that_is_not_there(tmp_path, capfd):
    report = tmp_path / "nowhere" / "report.png"
    assert cli.main(["demo", "--output", str(report)]) == cli.MISUSED
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"demo.py: error: --output: expected a file in an existing folder, got {report}"
    )


@pytest.mark.parametrize(
    ("missing", "last_line"),
    [
        (
            "sklearn",
            "The photograph and the digits are left out (no sklearn here). They come with: "
            "pip install 'windrow[demo]'",
        ),
        (
            "matplotlib",
            "The picture is left out (no matplotlib here). It comes with: pip install 'windrow[demo]'",
        ),
        ("rich", None),
    ],
)
def test_demo_leaves_out_what_is_missing(tmp_path, missing, last_line):
    (tmp_path / f"{missing}.py").write_text(f"raise ImportError('no {missing} here')")
    report = tmp_path / "report.png"
    block = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); "
    run = f"runpy.run_path({str(cli.examples_folder() / 'demo.py')!r}, run_name='__main__')"
    arguments = ["--epochs", "1", "--output", str(report)]
    path = f"sys.path.insert(0, {str(cli.examples_folder())!r}); "
    done = subprocess.run(
        [sys.executable, "-c", block + path + f"sys.path.insert(0, {str(tmp_path)!r}); " + run, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == (last_line or str(report))
