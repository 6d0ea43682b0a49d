"""The command line: what it prints, in which form, and with which exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest

import windrow
from windrow import cli, verify
from windrow.gradcheck import operations


def exit_code_of_parser(*argv):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    return stopped.value.code


@pytest.fixture
def few_gradient_checks(monkeypatch):
    """Tests that are about something else need not wait for all operations."""
    monkeypatch.setattr(verify, "check_operations", lambda: operations.check_operations(["conv_grad_bias"]))


def test_check_holds_and_fits_a_screen(capsys):
    assert cli.main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count = sum(line.endswith("  ok") for line in lines)
    assert lines[-1] == f"{count} of {count} comparisons hold."
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert not any("WRONG" in line for line in lines)


def test_check_as_json(few_gradient_checks, capsys):
    assert cli.main(["check", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["holds"] is True
    assert [row["what"] for row in report["rows"]] == [row.what for row in verify.comparisons()]
    assert all(row["holds"] and row["error"] <= row["bound"] for row in report["rows"])


@pytest.mark.parametrize(
    ("operation", "spoil"),
    [
        ("conv", lambda y: y * (1 + 1e-5)),
        ("conv", lambda y: y * np.nan),
        ("conv_grad_input", lambda dx: np.roll(dx, 1)),
        ("conv_grad_weight", lambda dw: dw[..., ::-1]),
        ("conv_grad_bias", lambda db: db / 2),
        ("unfold", lambda cols: cols + 1),
        ("fold", lambda x: x * 1.001),
        ("im2col", lambda cols: cols[:, ::-1]),
    ],
)
def test_check_sees_a_wrong_operation(few_gradient_checks, monkeypatch, capsys, operation, spoil):
    right = getattr(windrow, operation)
    monkeypatch.setattr(windrow, operation, lambda *args, **keywords: spoil(right(*args, **keywords)))
    assert cli.main(["check"]) == cli.FAILED
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith("WRONG")]
    assert lines
    assert all(operation in line for line in lines if "geometries" in line)


def test_check_says_what_a_wrong_gradient_looks_like(monkeypatch, capsys):
    right = operations.conv_backward

    def wrong(*args, **keywords):
        gradients = right(*args, **keywords)
        return gradients._replace(db=-gradients.db)

    monkeypatch.setattr(operations, "conv_backward", wrong)
    assert cli.main(["check"]) == cli.FAILED
    printed = capsys.readouterr().out
    assert "db has the wrong sign" in printed
    wrong_lines = [line.split(":")[0].strip() for line in printed.splitlines() if line.endswith("WRONG")]
    assert set(wrong_lines) == {"conv", "conv_jvp", "conv_double_backward"}


def test_check_as_json_holds_no_infinities(few_gradient_checks, monkeypatch, capsys):
    monkeypatch.setattr(windrow, "conv_grad_bias", lambda dy: np.full(dy.shape[1], np.nan, dy.dtype))
    assert cli.main(["check", "--json"]) == cli.FAILED

    def refuse(constant):
        raise AssertionError(constant)

    rows = json.loads(capsys.readouterr().out, parse_constant=refuse)["rows"]
    assert [row["error"] for row in rows if not row["holds"]] == ["nan"]


def test_info(capsys):
    assert cli.main(["info"]) == 0
    assert windrow.__version__ in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(windrow.show_config("dict")))


def test_explain(capsys):
    command = ["explain", "conv", "1x64x56x56", "32x16x3x3", "--stride", "2,1", "--padding", "0:1,1:1"]
    command += ["--groups", "4", "--dtype", "float64", "--threads", "1"]
    plan = windrow.explain(
        "conv",
        (1, 64, 56, 56),
        (32, 16, 3, 3),
        dtype="float64",
        stride=(2, 1),
        padding=((0, 1), (1, 1)),
        groups=4,
        threads=1,
    )
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{plan}\n"
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan.as_dict()))


def test_explain_unfold_draws(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "columns.png"
    command = ["explain", "unfold", "2x1x3x4", "2x2", "--layout", "(c k) (l n)", "--dtype", "float64"]
    assert cli.main([*command, "--draw", str(picture)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "operation     unfold",
        "layout        (c k) (l n)",
        "x shape       (2, 1, 3, 4)",
        "columns shape (4, 12)",
        "output size   (2, 3)",
        "bytes         384",
        f"picture       {picture}",
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert cli.main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["columns_shape"] == [4, 12]
    assert "picture" not in facts


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["unfold", "1x1x3x3", "4x4"], "kernel_size: "),
        (
            ["unfold", "1x1x64x64", "3x3", "--draw", "x.png"],
            "shape: expected columns of at most 4000 elements",
        ),
        (["unfold", "1x1x3x3", "2x2", "--layout", "n c"], "layout: missing 'k', 'l'\n    n c\n       ^"),
        (
            ["conv", "1x1x3x3", "1x1x2x2", "--draw", "x.png"],
            "--draw: expected the operation unfold, got conv",
        ),
    ],
)
def test_explain_unfold_refuses(capsys, command, complaint):
    assert cli.main(["explain", *command]) == cli.MISUSED
    assert f"windrow explain: {complaint}" in capsys.readouterr().err


def test_explain_refuses_in_the_words_of_the_library(capsys):
    assert cli.main(["explain", "conv", "1x64x56x56", "32x16x3x3"]) == cli.MISUSED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "windrow explain: w_shape: expected 64 channels per filter (64 of x_shape in 1 group), "
        "got 16: (32, 16, 3, 3); groups=4 would fit\n"
    )


def test_misuse_has_its_own_exit_code(capsys):
    assert exit_code_of_parser() == cli.MISUSED
    assert exit_code_of_parser("nonsense") == cli.MISUSED
    assert exit_code_of_parser("explain", "conv", "1xAx3", "1x1x3") == cli.MISUSED
    assert exit_code_of_parser("demo", "--epochs", "0") == cli.MISUSED
    assert "expected at least 1, got 0" in capsys.readouterr().err


def test_version_and_help(capsys):
    assert exit_code_of_parser("--version") == 0
    assert capsys.readouterr().out == f"windrow {windrow.__version__}\n"
    for command in ("demo", "check", "info", "explain"):
        assert exit_code_of_parser(command, "--help") == 0
        assert f"usage: windrow {command}" in capsys.readouterr().out


def test_python_m_windrow():
    command = [sys.executable, "-m", "windrow", "--version"]
    assert subprocess.check_output(command, text=True) == f"windrow {windrow.__version__}\n"
