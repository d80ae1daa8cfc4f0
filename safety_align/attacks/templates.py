"""A goal in every jailbreak template of a file, as GPTFuzzer's, or in those of ours."""

import dataclasses
import pathlib
from collections.abc import Sequence

from safety_align.attacks.base import OneRound, ask
from safety_align.attacks.behaviors import TEMPLATE_SLOT, read_templates
from safety_align.attacks.prototypes import PROTOTYPES
from safety_align.bundle import Bundle
from safety_align.data.behavior import Behavior
from safety_align.decoding import Request
from safety_align.fields import check_fields


@dataclasses.dataclass(frozen=True)
class Templates(OneRound):
    """Asks for each behaviour once in every template; the behaviour falls if any is answered.

    file: CSV with a column `text`, in which `TEMPLATE_SLOT` stands for the goal (GPTFuzzer's is `gptfuzzer_templates.csv`
    below the data directory's `eval`); empty: the prototypes of ours, from which `autodan` starts too. count: the first so
    many templates; 0: all. A file is read when the attack is made, so that one that is none is named before a model is loaded.
    """

    file: str = ""
    count: int = 0

    def __post_init__(self):
        check_fields(self, "attack.", count=0)
        self.texts()

    def texts(self) -> list[str]:
        """The templates."""
        found = read_templates(pathlib.Path(self.file)) if self.file else [" ".join(p) for p in PROTOTYPES]
        return found[: self.count or None]

    def requests(self, behaviors: Sequence[Behavior], bundle: Bundle) -> list[list[Request]]:
        """See `Attack.requests`."""
        texts = self.texts()
        return [
            [ask(text.replace(TEMPLATE_SLOT, b.goal), seed=i * len(texts) + n) for n, text in enumerate(texts)]
            for i, b in enumerate(behaviors)
        ]
