"""What a conversation is: turns, who wrote them, and which of them the first check reads."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from safety_align.errors import InputError

ROLES = ("system", "user", "assistant", "tool")

NO_REQUEST = "Please continue."
"""What a user says where an answer is read without its query."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
      role: "system", "user", "assistant" or "tool" (what a tool gave back).
      text: what it says.
      vouched: the operator wrote this system turn, so that no check reads it. Text that came with a request is never
        vouched for: a goal hidden there is content like any other [ours].
    """

    role: str
    text: str
    vouched: bool = False

    def __post_init__(self):
        if self.role not in ROLES:
            raise InputError(f"turn role {self.role!r} is not one of {', '.join(ROLES)}")
        if self.vouched and self.role != "system":
            raise InputError(f"a turn of role {self.role!r} is vouched for; only a system turn may be")

    def is_content(self, assistant_content: bool = True) -> bool:
        """Whether `[CLS]` may read it; `assistant_content`: earlier assistant turns too."""
        return {"system": not self.vouched, "assistant": assistant_content}.get(self.role, True)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """ids [P] int32, BOS first where the model has one, ending where the answer starts; content [P] bool. There is no
    `[CLS]` in it."""

    ids: np.ndarray
    content: np.ndarray

    def insert(self, ids: np.ndarray) -> tuple["Prompt", int]:
        """The prompt with `ids` [N] as more content behind its last, and the place of the first of them. InputError for a prompt
        without content."""
        if not self.content.any():
            raise InputError("nothing of the prompt is content: there is nothing to stand behind")
        end = int(np.flatnonzero(self.content)[-1]) + 1
        inserted = np.concatenate([self.ids[:end], ids, self.ids[end:]]).astype(np.int32)
        content = np.concatenate([self.content[:end], np.ones(len(ids), bool), self.content[end:]])
        return Prompt(inserted, content), end


def check_turns(turns: Sequence[Turn]) -> None:
    """Raises InputError unless `turns` is a conversation that an answer can follow."""
    if not turns:
        raise InputError("the conversation is empty; give at least one user turn")
    if turns[-1].role not in ("user", "tool"):
        raise InputError(f"the last turn is the {turns[-1].role}'s; an answer follows a user or a tool turn")
    for number, turn in enumerate(turns):
        if turn.role == "user" and not turn.text.strip():
            raise InputError(f"the prompt is empty (turn {number} of the conversation); give it some text")
        if turn.role == "system" and number:
            raise InputError(f"turn {number} is a system turn; only the first may be")
        if turn.role == "tool" and not any(t.role == "user" for t in turns[:number]):
            raise InputError(f"turn {number} is a tool's, and no user turn stands before it")
