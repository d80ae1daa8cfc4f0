"""Whether a gate changed answers that it did not refuse: compared with the same language model without a gate."""

import hashlib
from collections.abc import Sequence

from safety_align.decoding import Result

ANSWERS = "answers"
"""Key of a benign set's results with a digest of each answer; `with_changes` takes it away."""


def digests(results: Sequence[Result]) -> list[str | None]:
    """Of each answer, of its ids; None where the gate refused."""
    return [
        None if r.refused else hashlib.sha256(repr(list(map(int, r.token_ids))).encode()).hexdigest() for r in results
    ]


def with_changes(measured: dict[str, dict], ungated: dict[str, str]) -> dict[str, dict]:
    """Results of variants, each with "changed_answers": {"n", "identical"}, without digests.

    `ungated`: gated variant → the one that decodes the same language model without a gate; others get no such entry.
    n: answers to benign prompts that the gate did not refuse; identical: those that are, token for token, what the
    language model answers without it.
    """
    found = {}
    for name, result in measured.items():
        found[name] = dict(result)
        if plain := measured.get(ungated.get(name)):
            pairs = [
                (ours, theirs)
                for key, part in result["benign_refused"].items()
                for ours, theirs in zip(part.get(ANSWERS, ()), plain["benign_refused"].get(key, {}).get(ANSWERS, ()))
                if ours is not None
            ]
            found[name]["changed_answers"] = {"n": len(pairs), "identical": sum(a == b for a, b in pairs)}
        found[name]["benign_refused"] = {
            key: {k: v for k, v in part.items() if k != ANSWERS} for key, part in result["benign_refused"].items()
        }
    return found
