"""Small Python programs in processes of their own."""

import os
import subprocess
import sys

SANITIZED = "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ
# Seconds from a signal to its exception; what is done between two looks takes ten times as long sanitized.
PROMPT = 2.5 if SANITIZED else 0.25


def run(source, *, timeout=60, **environment):
    """Run a program and return it finished; variables that are None are taken out of the environment."""
    variables = {**os.environ, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=variables,
        check=False,
    )


def output(source, **options):
    """What a program prints that must end well and complain about nothing."""
    done = run(source, **options)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
    assert done.stderr == ""
    return done.stdout.strip()


def last_error(source, **options):
    """The last line of a program that must end with an exception."""
    done = run(source, **options)
    assert done.returncode == 1, f"exit status {done.returncode}: {done.stderr}"
    return done.stderr.splitlines()[-1]
