"""What `evaluate`, `compare` and `quickstart` share: configs to typed values, and an output directory of one's own."""

import json
import pathlib

from safety_align import distributed
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation.run import EvalConfig


def to_eval_config(values: dict) -> tuple[EvalConfig, GateConfig]:
    """The typed configs of an evaluation config's dict."""
    values = dict(values)
    try:
        gate = GateConfig(**values.pop("gate"))
        return EvalConfig(**values), gate
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(f"the config is not an evaluation config: {type(error).__name__}: {error}") from error


def claim_output(output: pathlib.Path, about: dict) -> None:
    """Raises InputError if `output` holds the results of another evaluation; nothing is overwritten then.

    Of several processes the first looks; all must do the same evaluation.
    """
    distributed.must_equal(about)
    with distributed.agreed():
        if distributed.is_main():
            _claim(output, json.loads(json.dumps(about)))


def _claim(output: pathlib.Path, about: dict) -> None:
    results = output / "results.json"
    if not results.is_file():
        return
    try:
        old = json.loads(results.read_text("utf-8"))["about"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{results} is not an evaluation's; choose another --output") from error
    if old != about:
        keys = ", ".join(sorted(k for k in old.keys() | about.keys() if old.get(k) != about.get(k)))
        raise InputError(f"{results} belongs to another evaluation (different {keys}); choose another --output")
