"""Which threshold keeps false alarms rare, and what it lets through (docs/method.md section 12).

Every answer is written once, by the model with all its checks and a gate that does not act. What the gate would have said at
any threshold follows from its checks, so that one pass shows the whole trade-off.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import scipy.stats

from safety_align.bounds import number
from safety_align.decoding import GateConfig, Result
from safety_align.decoding.config import THRESHOLDS
from safety_align.errors import InputError
from safety_align.evaluation.statistics import rate
from safety_align.strict_json import read_json

SHOWN = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Thresholds of the table, beside the one that is chosen."""


def watching(gate: GateConfig) -> GateConfig:
    """The gate that checks after every token and never acts; rule 2 reads all windows of an answer, rule 3 none."""
    return dataclasses.replace(gate, dependence="low", schedule="every", threshold=THRESHOLDS[1])


def peak(result: Result, confirmations: int) -> float:
    """The highest threshold at which the gate refuses an answer, from all its checks: the first one's probability, or the least
    of `confirmations` in a row, whichever is larger. At the end fewer are enough: no answer ends while an alert is pending.

    The windows between an alert and its confirmation are taken as rule 2 reads them; rule 3's hold up to tau - 1 tokens more.
    A check that is not a number counts as 1, as in the gate. A second reading (`GateRules.reread`) is a part of it.
    """
    values = np.nan_to_num([check.probability for check in result.checks], nan=1.0)
    if not len(values):
        raise InputError("an answer without checks has no peak: was it decoded without a gate?")
    rest = values[1:]
    runs = [rest[i : i + confirmations].min() for i in range(len(rest))]
    return float(np.fmax(max([values[0], *runs]), result.reread_score))


def accepted(peaks: Sequence[float], alarms: float, doubt: float) -> float:
    """The lowest threshold at which one may say, with an error of at most `doubt`, that less than the share `alarms` of
    such answers are refused: from the highest threshold down, as long as so few of them in a sample this large would be rarer
    than `doubt` if `alarms` of all were (a binomial bound at each threshold, in a fixed order, needs no correction for many).

    Raises InputError where the sample is too small to say so of any threshold.
    """
    ordered = np.sort(np.asarray(peaks, float))[::-1]
    n = len(ordered)
    most = _most(n, alarms, doubt)
    if most is None:
        least = int(np.ceil(np.log(doubt) / np.log1p(-alarms)))
        raise InputError(
            f"{n} benign answers cannot show that fewer than {alarms:.2%} are refused: that takes {least}, none of them "
            "refused; measure more, or set config.alarms higher"
        )
    first_too_many = ordered[most]
    if first_too_many >= THRESHOLDS[1]:
        raise InputError(
            f"even at the highest threshold, {THRESHOLDS[1]}, {(ordered >= THRESHOLDS[1]).sum()} of {n} benign answers are "
            f"refused, where {most} may be; the signal cannot be had at config.alarms={alarms:g}"
        )
    return float(np.clip(np.nextafter(np.float32(first_too_many), np.float32(2)), *THRESHOLDS))


@functools.cache
def _most(n: int, alarms: float, doubt: float) -> int | None:
    """How many refused answers of `n` are still few; None where not even 0 is."""
    few = np.flatnonzero(scipy.stats.binom.cdf(np.arange(n), n, alarms) <= doubt)
    return int(few[-1]) if len(few) else None


def refused(peaks: Mapping[str, Sequence[float]], threshold: float) -> dict[str, dict]:
    """Of each set, the share of answers that the gate refuses at `threshold`, with its interval (`statistics.rate`)."""
    return {name: rate([p >= threshold for p in found]) for name, found in peaks.items()}


def read_calibration(path: pathlib.Path) -> dict:
    """What a model keeps of a `calibration.json`: all but the peaks and the curve. InputError for a file that is none."""
    found = read_json(path, _Calibration)
    number(f"{path}: threshold", found.threshold, *THRESHOLDS)
    return msgspec.to_builtins(found)


class _Calibration(msgspec.Struct):
    threshold: float
    alarms: float
    doubt: float
    n: int
    benign: dict[str, dict]
    attacks: dict[str, dict]
    about: dict


@dataclasses.dataclass(frozen=True)
class CalibrationConfig:
    """alarms: the share of benign answers that may be refused; doubt: the probability of being wrong about it."""

    alarms: float = 0.01
    doubt: float = 0.05

    def __post_init__(self):
        number("config.alarms", self.alarms, 1e-6, 0.5)
        number("config.doubt", self.doubt, 1e-6, 0.5)
