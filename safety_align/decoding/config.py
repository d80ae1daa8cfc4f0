"""What the gate does with the verdict, and how tokens are drawn."""

import dataclasses
import math

from safety_align.bounds import boolean, integer, number, shown
from safety_align.decoding.schedule import Schedule, parse_schedule
from safety_align.errors import InputError
from safety_align.strict_json import check_dataclass

REFUSAL_PREFIX = "Sorry, I cannot fulfill your request because"
"""What a refusal starts with (paper; docs/method.md section 6); the model itself writes the reason."""

FIXED_REFUSAL = "Sorry, I cannot fulfill your request."
"""The whole answer under dependence "high"."""

THRESHOLDS = 1e-4, 1 - 1e-4
"""Bounds of a gate's threshold: logits of -9.2 and 9.2. A head that was trained is rarely surer, so that beyond them the
gate is one that always or never refuses: what `dependence` is for."""

MOST = 10**6
"""Upper bound of widths, counts and steps in tokens: more than any answer has, and sums of them fit int32."""

DEPENDENCES, MODES, READS = ("low", "medium", "high"), ("insert", "rewind"), ("windows", "all")


@dataclasses.dataclass(frozen=True)
class GateRules:
    """The decoder's safety gate without its threshold (docs/method.md sections 5-7): what a decoder is compiled for.

    Hashable.

    Attributes:
      dependence: "low" ignores the verdict (the answer still attends to `[CLS]`), "medium" turns the answer into an
        explained refusal, "high" ends it with `FIXED_REFUSAL` at the first malicious verdict.
      mode: where a refusal starts: "insert" at the present token, "rewind" at the last benign check [ours] (the
        tokens since then are dropped; a prefilled answer that never passed a check is dropped whole).
      tau: consecutive malicious checks (not steps) that confirm an alert; 1 under "high".
      r1, r2, r3: widths of the windows of rules 1-3, in tokens.
      schedule: when to re-evaluate, as `parse_schedule` reads it.
      confirm_every_step: while an alert is pending, check after every token whatever the schedule says [ours]:
        costs nothing while the answer is benign, and a sparse schedule is not late.
      reads: "windows", the strategic attention of rules 1-3; "all", query and whole answer at every check (the
        ablation without strategic attention).
      windows_include_query: windows of rules 2 and 3 read the query too [ours: off, the paper's notes].
      visible: tokens of the answer attend to `[CLS]`. False is the routing of the pretraining stage: the verdict
        watches a language model that does not feel it [ours].
      max_refusal_tokens: bound on a refusal; it may exceed the cap on new tokens by this much, so that a refusal
        that starts late is not cut short.
      reread: read the latest tokens once more without the query, after every few tokens (reread.py): words in the query cannot
        blind such a check [ours: off, it costs what docs/performance.md says].
    """

    dependence: str = "medium"
    mode: str = "rewind"
    tau: int = 3
    r1: int = 10
    r2: int = 10
    r3: int = 10
    schedule: str = "every"
    confirm_every_step: bool = True
    reads: str = "windows"
    windows_include_query: bool = False
    visible: bool = True
    max_refusal_tokens: int = 48
    reread: bool = False

    def __post_init__(self):
        for name, known in (("dependence", DEPENDENCES), ("mode", MODES), ("reads", READS)):
            if getattr(self, name) not in known:
                raise InputError(f"gate.{name} {shown(getattr(self, name))} is not one of {', '.join(known)}")
        for name in ("tau", "r1", "r2", "r3", "max_refusal_tokens"):
            integer(f"gate.{name}", getattr(self, name), 1, MOST)
        for name in ("confirm_every_step", "windows_include_query", "visible", "reread"):
            boolean(f"gate.{name}", getattr(self, name))
        if self.tau > self.r2 + 1:
            raise InputError(
                f"gate.tau ({self.tau}) must not exceed r2 + 1 ({self.r2 + 1}): no harmful stretch fills so many windows"
            )
        if not isinstance(self.schedule, str):
            raise InputError(f"gate.schedule must be text, got {shown(self.schedule)}")
        parse_schedule(self.schedule)

    @property
    def parsed_schedule(self) -> Schedule:
        """The schedule as an object."""
        return parse_schedule(self.schedule)

    @property
    def refuses(self) -> bool:
        """The decoder acts on the verdict."""
        return self.dependence != "low"

    @property
    def confirmations(self) -> int:
        """Consecutive malicious checks that confirm an alert."""
        return 1 if self.dependence == "high" else self.tau

    @property
    def refusal_text(self) -> str:
        """What a refusal is forced to start with."""
        return FIXED_REFUSAL if self.dependence == "high" else REFUSAL_PREFIX


@dataclasses.dataclass(frozen=True)
class GateConfig(GateRules):
    """The safety gate: its rules, and the threshold of its head.

    Attributes:
      threshold: probability from which a verdict is malicious, within `THRESHOLDS`. The compiled decoder takes it as an
        argument: gates that differ in nothing else share one program.
    """

    threshold: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        number("gate.threshold", self.threshold, *THRESHOLDS)

    @classmethod
    def read(cls, values: dict, where: str) -> "GateConfig":
        """The gate that stored `values` (parsed JSON) spell; InputError, which names `where`, for anything else."""
        return check_dataclass(values, cls, f"{where}: gate")

    @property
    def rules(self) -> GateRules:
        """The gate without its threshold."""
        return GateRules(**{field.name: getattr(self, field.name) for field in dataclasses.fields(GateRules)})

    @property
    def logit_threshold(self) -> float:
        """`threshold` on the scale of the safety logit."""
        return math.log(self.threshold / (1 - self.threshold))


WIDTHS = ("r1", "r2", "r3", "visible", "reads", "windows_include_query")
"""Fields that training decides: a gate that reads or shows more or less than was trained measures something else."""


def differences(gate: GateConfig, reference: GateConfig) -> dict[str, tuple]:
    """{field: (value, the reference's value)} of the fields in which two gates differ."""
    names = (field.name for field in dataclasses.fields(gate))
    pairs = {name: (getattr(gate, name), getattr(reference, name)) for name in names}
    return {name: (ours, theirs) for name, (ours, theirs) in pairs.items() if ours != theirs}


def describe(gate: GateConfig | None) -> str:
    """One line: what the gate is, and what differs from the default."""
    if gate is None:
        return "gate: off, nothing is checked"
    changed = differences(gate, GateConfig())
    said = ", ".join(f"{name}={ours} (default {theirs})" for name, (ours, theirs) in changed.items())
    acts = "" if gate.refuses else "; verdicts are only reported"
    return f"gate: {gate.dependence}, {gate.mode}, threshold {gate.threshold:g}, tau {gate.tau}{acts}; " + (
        f"not as by default: {said}" if said else "all as by default"
    )


TEMPERATURES = 1e-4, 1e4
"""Bounds of a temperature that is not 0: below, a draw is the most likely token; above, any token of the vocabulary."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How one row draws its tokens.

    Attributes:
      temperature: 0 is greedy; else within `TEMPERATURES`.
      top_k: keep the k most likely tokens; 0 keeps all.
      top_p: then keep the smallest set of tokens with at least this probability, in [1e-6, 1].
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if isinstance(self.temperature, bool) or self.temperature != 0:
            number("sampling.temperature (0 is greedy)", self.temperature, *TEMPERATURES)
        integer("sampling.top_k (0 keeps all)", self.top_k, 0)
        number("sampling.top_p", self.top_p, 1e-6, 1)
