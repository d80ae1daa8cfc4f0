"""The columns of a comparison: which checkpoints, decoded how. A config of launch.compare names one of these, or its own.

A variant is {"checkpoint", "gated", "gate"}: a model's directory, whether its gate is in force (False: it is decoded
without `[CLS]`), and the fields of the gate that are changed.
"""


def gate_variants(sft: str, gated: str) -> dict[str, dict]:
    """The gate and its ablations, by name: each variant sets one named thing of the gate.

    (a) sft: no `[CLS]`. (b) gated: the full gate. (c) attention_only: the verdict is ignored (dependence "low").
    (d) decoding_only: no strategic attention, each check reads query and whole answer. (e) the schedules. `sft` and
    `gated` are the two models' directories.
    """
    changes = {
        "gated": {},
        "attention_only": dict(dependence="low"),
        "decoding_only": dict(reads="all"),
        "first": dict(schedule="first"),
        "periodic": dict(schedule="periodic:10"),
        "annealing": dict(schedule="annealing"),
        "random": dict(schedule="random:0.3"),
    }
    return {"sft": _variant(sft, gated=False)} | {name: _variant(gated, gate=gate) for name, gate in changes.items()}


def baselines(run: str, gated: str) -> dict[str, dict]:
    """The full gate beside the baselines, by name, whose models are `run`_sft, `run`_dpo and `run`_augmented; `gated` is
    the gated model's directory.

    sft: no `[CLS]`. sft_dpo: DPO from it. augmented: SFT with refusals after unsafe beginnings (Qi et al. 2025).
    """
    plain = {"sft": f"{run}_sft", "sft_dpo": f"{run}_dpo", "augmented": f"{run}_augmented"}
    return {name: _variant(path, gated=False) for name, path in plain.items()} | {"gated": _variant(gated)}


def _variant(checkpoint: str, gated: bool = True, gate: dict | None = None) -> dict:
    return {"checkpoint": checkpoint, "gated": gated, "gate": gate or {}}
