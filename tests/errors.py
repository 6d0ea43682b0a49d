"""Errors are tested by their exact type and text."""

import pytest


def raises(kind, text, call, *args, **kwargs):
    """Check that a call raises exactly this."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert str(caught.value) == text
    assert caught.type is kind
