"""Which judge a directory holds."""

import os
import pathlib

from safety_align.errors import InputError
from safety_align.evaluation.judges.base import Judge
from safety_align.evaluation.judges.corpus import EmbeddedHarm
from safety_align.evaluation.judges.guard import GuardJudge
from safety_align.evaluation.judges.learned import LearnedJudge, is_judge
from safety_align.evaluation.judges.rules import RefusalRules
from safety_align.evaluation.kinds import build
from safety_align.interop import hub

RULES, EMBEDDED = "rules", "embedded"
"""What the rules are called where a directory may stand, and the judge of the embedded corpus."""


def load_judge(name: str | os.PathLike, **options) -> Judge:
    """The judge in a directory, or the rules (`RULES`), or that of the embedded corpus (`EMBEDDED`).

    A training run that learned from labelled exchanges is a `LearnedJudge`; any other model, a Hugging Face directory (or
    its name on the hub) or a run, a `GuardJudge`. `options`: their fields. The model is read when it first judges, and kept.

    Raises InputError for a directory that is not there, and for options that the judge does not have.
    """
    directory = os.fspath(name)
    if directory == RULES:
        return build({"kind": "refusal_rules"} | options, {"refusal_rules": RefusalRules}, "judge")
    if directory == EMBEDDED:
        return build({"kind": "embedded_harm"} | options, {"embedded_harm": EmbeddedHarm}, "judge")
    path = pathlib.Path(directory)
    if not path.is_dir() and hub.parse(directory) is None:
        raise InputError(f"judge {directory} does not exist; give the directory of a judge, {RULES!r} or {EMBEDDED!r}")
    kinds = {"learned": LearnedJudge, "guard": GuardJudge}
    kind = "learned" if is_judge(path) else "guard"
    return build({"kind": kind, "directory": directory} | options, kinds, "judge")
