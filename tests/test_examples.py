"""The examples, run as they stand; that of a Hugging Face model is in interop/test_published.py."""

import pytest

from examples import nnx, own_loop

pytestmark = pytest.mark.slow


def test_a_loop_of_ones_own_learns(capsys):
    """A guess is right half of the time; perplexity of an untrained model is the vocabulary's 97."""
    right, perplexity = own_loop.main(steps=150)
    assert right > 0.9 and perplexity < 30
    assert "step  150" in capsys.readouterr().out


def test_the_module_learns_inside_nnx():
    assert nnx.main(steps=40) > 0.9
