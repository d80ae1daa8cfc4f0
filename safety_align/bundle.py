"""What a checkpoint is: everything that inference needs of a model, as one value."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a name for other modules' types: importing it imports none of them
    from safety_align.decoding.canaries import Canary
    from safety_align.decoding.config import GateConfig
    from safety_align.model import TransformerConfig
    from safety_align.text import ChatTemplate, ImportedTokenizer, JinjaTemplate, Tokenizer


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained run's checkpoint, or a published model.

    Attributes:
      model_config: the shape of `params`.
      params: unboxed, scanned or unrolled.
      tokenizer, template: text ↔ ids and spans.
      gate: the model's own gate, with the widths that it was trained on; None of a model without a safety signal.
      calibration: what came with the gate, if anything.
      canaries: texts with the logits that the safety signal gave them when it was saved; None if it was not tested.
      config: the run's config (of a published model: which files it is).
      step: training steps done; None of a published model.
    """

    model_config: "TransformerConfig"
    params: dict
    tokenizer: "Tokenizer | ImportedTokenizer"
    template: "ChatTemplate | JinjaTemplate"
    gate: "GateConfig | None" = None
    calibration: dict | None = None
    canaries: "tuple[Canary, ...] | None" = None
    config: dict = dataclasses.field(default_factory=dict)
    step: int | None = None
