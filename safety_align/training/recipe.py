"""What a run is to do, in conversations, and the steps, decay and weights that this comes to; for config files.

How many conversations a row holds is measured, not guessed: it depends on the mixture, the template and the tokenizer.

    python -m launch.benchmark packing --config=configs/align_llama2_7b.py --tokenizer=DIR
"""

from safety_align.errors import InputError

EPOCH = 29_600
"""Conversations of an epoch: as many as the paper's data have (docs/method.md section 4), whatever our sources hold."""

MALICIOUS = 0.5
"""Share of malicious ones among labelled queries, as in the paper."""

LABELLED = {
    **dict.fromkeys(
        ("alpaca", "lima", "lima_queries", "dolly", "gsm8k", "benign_queries", "dolly_queries", "benign_reworded"),
        (1.0, 0.0),
    ),
    **dict.fromkeys(("malicious_prompts", "safe_responses", "malicious_queries", "malicious_reworded"), (1.0, 1.0)),
    **dict.fromkeys(("clear_prompts", "clear_queries", "clear_reworded", "clear_answers"), (1.0, 1.0)),
    "safe_answers": (0.0, 0.0),
    "beavertails": (0.97, 1.0),
    "contrast": (1.0, 0.5),
    "own_answers": (1.0, 0.44),
}
"""Of each source: the share of examples whose query has a label, and the share of malicious ones among these. Safe answers
of BeaverTails say nothing of their query. Own answers: as measured with a model of 0.5 B parameters, for
as many benign prompts as alarming ones and malicious ones of either kind; a model that refuses more, or fewer, has another share (its
`counts.json`)."""


def schedule(conversations_per_row: float, rows: int, epochs: float, epoch: float = EPOCH) -> dict[str, int]:
    """{"steps", "decay_every"}: optimizer steps of the run, and of an epoch."""
    per_step = conversations_per_row * rows
    return {"steps": round(epochs * epoch / per_step), "decay_every": max(1, round(epoch / per_step))}


def balanced(mixture: dict[str, float], by: str, share: float = MALICIOUS) -> dict[str, float]:
    """The mixture with the weight of `by`, a source of benign queries, such that `share` of labelled queries are malicious."""
    if unknown := [name for name in (*mixture, by) if name not in LABELLED]:
        raise InputError(f"the labels of {unknown[0]!r} are not known; they are of {', '.join(LABELLED)}")
    if LABELLED[by] != (1.0, 0.0):
        raise InputError(f"{by} is not a source of benign queries alone")
    others = [(weight, *LABELLED[name]) for name, weight in mixture.items() if name != by]
    malicious = sum(weight * labelled * bad for weight, labelled, bad in others)
    benign = sum(weight * labelled * (1 - bad) for weight, labelled, bad in others)
    weight = malicious * (1 - share) / share - benign
    if weight <= 0:
        raise InputError(f"{by} cannot balance a mixture that is benign enough: it would need the weight {weight:.2f}")
    return mixture | {by: round(weight, 3)}
