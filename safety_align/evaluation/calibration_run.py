"""A calibration: the sets of an evaluation's config, answered once and read at every threshold."""

import dataclasses
import pathlib

from jax.sharding import Mesh

from safety_align.bundle import Bundle
from safety_align.decoding import GateConfig
from safety_align.errors import InputError
from safety_align.evaluation.calibration import SHOWN, CalibrationConfig, accepted, refused
from safety_align.evaluation.config import EvalConfig
from safety_align.evaluation.report import aligned
from safety_align.evaluation.watched import Watched


def calibrate(
    bundle: Bundle,
    gate: GateConfig,
    config: EvalConfig,
    wanted: CalibrationConfig,
    partial: pathlib.Path | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
) -> dict:
    """{"threshold", "why_none", "alarms", "doubt", "n", "gate", "benign", "attacks", "curve"}.

    The threshold is chosen by the answers to all benign sets of `config` together; where none can be (`accepted`), it is None,
    and "why_none" says why. "benign" and "attacks": of each set the share that is refused at it. "curve": the same at the
    thresholds of a grid, and each set's "peaks". Attacks that answer in several rounds or draw several answers are read answer
    by answer. Arguments as of `run.evaluate_variant`.
    """
    watched = Watched(bundle, gate, config, "calibration", partial, mesh, progress)
    sets = config.measurements
    benign = {name: [p for p, _ in watched.benign(name, sample)[1]] for name, sample in sets.benign.items()}
    attacked = {name: [p for p, _ in watched.attack(name, measured)[2]] for name, measured in sets.attacks.items()}
    pooled = [p for found in benign.values() for p in found]
    threshold, why = None, None
    try:
        threshold = accepted(pooled, wanted.alarms, wanted.doubt)
    except InputError as error:
        why = str(error)
    shown = [] if threshold is None else [threshold]
    return {
        "threshold": threshold,
        "why_none": why,
        **dataclasses.asdict(wanted),
        "n": len(pooled),
        "gate": dataclasses.asdict(gate),
        "benign": refused(benign, threshold) if shown else {},
        "attacks": refused(attacked, threshold) if shown else {},
        "curve": [
            {"threshold": at, "benign": refused(benign, at), "attacks": refused(attacked, at)}
            for at in sorted({*SHOWN, *shown})
        ],
        "peaks": {"benign": benign, "attacks": attacked},
    }


def calibration_table(found: dict) -> str:
    """The curve as an aligned Markdown table, in per cent refused; the chosen threshold's row is marked."""
    groups = [(group, name) for group in ("benign", "attacks") for name in found["curve"][0][group]]
    rows = [["threshold", *(f"{name}, refused %" for _, name in groups)]]
    for point in found["curve"]:
        chosen = point["threshold"] == found["threshold"]
        cells = [f"{100 * point[group][name]['rate']:.1f}" for group, name in groups]
        rows.append([f"{point['threshold']:.4g}{' (chosen)' if chosen else ''}", *cells])
    return aligned(rows)
