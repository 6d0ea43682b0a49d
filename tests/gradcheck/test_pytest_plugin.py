import json

import numpy as np
import pytest

from windrow.gradcheck import GradientError

pytest_plugins = ["windrow.gradcheck.pytest_plugin"]

X = np.linspace(-1.0, 1.0, 6)


def test_a_right_pair_gives_its_report(check_gradients, tmp_path):
    report = check_gradients(np.sin, lambda dy, x: dy * np.cos(x), X)
    assert report
    assert report.title == "test_a_right_pair_gives_its_report"
    assert not list(tmp_path.iterdir())


def test_a_wrong_pair_leaves_its_report(check_gradients, tmp_path, capsys):
    with pytest.raises(GradientError):
        check_gradients(np.sin, lambda dy, x: -dy * np.cos(x), X)
    said = json.loads((tmp_path / "gradients.json").read_text())
    assert said["patterns"][0]["text"] == "dx has the wrong sign"
    assert (tmp_path / "gradients.png").stat().st_size > 0
    assert capsys.readouterr().out.startswith("saved:")


def test_the_seed_follows_from_the_test_and_can_be_given(check_gradients):
    one = check_gradients(np.sin, lambda dy, x: dy * np.cos(x), X)
    two = check_gradients(np.sin, lambda dy, x: dy * np.cos(x), X)
    assert one.seed == two.seed != 3
    assert check_gradients(np.sin, lambda dy, x: dy * np.cos(x), X, seed=3).seed == 3
