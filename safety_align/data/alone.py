"""Answers without their query, as the gate's second reading reads them (decoding/reread.py) [ours].

A share of the answers that have a label stand behind a request that asks for nothing, and of each only a stretch: the label is
the answer's, and of the query nothing is said.
"""

import dataclasses
import re
from collections.abc import Sequence

from safety_align.data.draws import Draws
from safety_align.data.examples import Example
from safety_align.data.mapped import Mapped
from safety_align.text import NO_REQUEST, Turn

WORDS = 15, 50
"""Words of a stretch, where the answer has so many: about what the second reading holds at once."""


def with_alone(examples: Sequence[Example], share: float) -> Sequence[Example]:
    """`examples`, changed as they are read."""
    return Mapped(examples, lambda example: leave_alone(example, share), f"alone {share}") if share else examples


def leave_alone(example: Example, share: float) -> Example:
    """A stretch of the example's answer without its query, if it is one of the `share` of those with a labelled answer that are
    changed: chosen by source and id, the same in every epoch. No language model learns from it."""
    draw = Draws(f"alone {example.source}/{example.id}")
    if example.response_label is None or not example.turns or example.rejected or not draw.share() < share:
        return example
    words = list(re.finditer(r"\S+\s*", example.response))
    least, most = WORDS
    count = min(len(words), least + draw.below(most - least + 1))
    if not count:
        return example
    first = draw.below(len(words) - count + 1)
    stretch = "".join(word[0] for word in words[first : first + count]).rstrip()
    return dataclasses.replace(
        example, turns=(Turn("user", NO_REQUEST),), response=stretch, query_label=None, train_lm=False, unsafe_start=""
    )
