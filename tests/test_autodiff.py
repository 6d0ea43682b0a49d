"""The example that trains with autograd: its network learns."""

import pytest

from windrow import cli

pytest.importorskip("autograd")
pytest.importorskip("sklearn")


@pytest.fixture
def autodiff(monkeypatch):
    monkeypatch.syspath_prepend(str(cli.examples_folder()))
    return __import__("autodiff")


def test_it_learns(autodiff, capsys):
    autodiff.main(["--epochs", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert float(lines[-1].split()[2].rstrip("%")) > 93
