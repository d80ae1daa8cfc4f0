"""Which judge may judge what: the one that steers an attack scores nothing, and none judges a model that it was made of."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from safety_align.bundle import Bundle
from safety_align.errors import InputError
from safety_align.evaluation.judges.base import Judge
from safety_align.evaluation.judges.every import Every
from safety_align.evaluation.judges.guard import GuardJudge
from safety_align.evaluation.judges.learned import LearnedJudge
from safety_align.interop import hub
from safety_align.model.quantized import widened
from safety_align.training.checkpoint import stored_config

ROWS = 256
"""Rows of the token embeddings that two models are compared by."""

ALIKE = 0.99
"""Cosine of these rows from which two models have the same origin: rounded, or trained a little. Those of two models that were
trained apart are hardly alike at all."""


def check_apart(steering: Judge, scoring: Mapping[str, Judge]) -> None:
    """Raises InputError where a model that steers an attack is also one of the judges that score it: what it calls harm has then been
    searched for. Rules, which are no model, may do both."""
    taken = {_directory(judge): name for name, judge in scoring.items() if _directory(judge)}
    for judge in steering.judges if isinstance(steering, Every) else (steering,):
        if (name := taken.get(_directory(judge))) is not None:
            raise InputError(
                f"--judge={name} is an --attack-judge too: an attack that was steered by a judge says nothing by that judge; "
                "score by another"
            )


def check_not_own(judges: Mapping[str, Judge], checkpoint: str, bundle: Bundle) -> None:
    """Raises InputError for a judge that is the attacked model, or that was made of the same one: it shares its blind spots.

    judges: by what the command line calls them; checkpoint: where the attacked model is, as given; bundle: that model. By
    where both say that they come from, and of a learned judge by its token embeddings too, which it keeps as they were.
    """
    own = {_model(checkpoint)} | _origin(bundle.config)
    for name, judge in judges.items():
        if (directory := _directory(judge)) is None:
            continue
        theirs = {directory}
        if (path := pathlib.Path(judge.directory)).is_dir() and (
            path / "checkpoints"
        ).is_dir():  # a run, of a judge or a guard
            theirs |= _origin(stored_config(path))
        if own & theirs or (isinstance(judge, LearnedJudge) and _alike(judge.bundle, bundle)):
            raise InputError(
                f"{name} is made of the model that is attacked ({checkpoint}), and shares its blind spots; take one of another model"
            )


def _directory(judge: Judge) -> str | None:
    """What stands for a judge that is a model; None of one that is not."""
    return _model(judge.directory) if isinstance(judge, LearnedJudge | GuardJudge) else None


def _model(name: str) -> str:
    """What stands for a model: its path, or its name on the hub, of whatever commit: two of one model are of one origin."""
    found = hub.parse(name)
    return hub.identity(name) if found is None else found[0]


def _origin(config: dict) -> set[str]:
    """Where the model of a run, or of a directory, comes from, as far as its config says."""
    return {_model(config[key]) for key in ("init_from", "checkpoint") if config.get(key)}


def _alike(a: Bundle, b: Bundle) -> bool:
    tables = [bundle.params["embedding"] for bundle in (a, b)]  # [V, D], or the same rounded
    leaves = [jax.tree.leaves(table) for table in tables]
    if not all(
        leaf.is_fully_addressable for leaf in leaves[0] + leaves[1]
    ):  # of several processes: by their names alone
        return False
    if leaves[0][0].shape != leaves[1][0].shape:
        return False
    some = [jax.tree.map(lambda leaf: leaf[:ROWS], table) for table in tables]
    first, second = (np.asarray(widened(table, (1,)), np.float32).ravel() for table in some)
    return float(first @ second) >= ALIKE * float(np.linalg.norm(first) * np.linalg.norm(second))
