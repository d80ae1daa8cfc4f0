"""Conversations with turns that public data lack: an operator's system prompt, and requests that stand in other turns.

Public data are one question and its answer. A model that has seen no system turn does not know its own template, and a
head that has read the last user turn only misses a request that stands elsewhere: in a system turn that came with the
request (a proxy's, a caller's), or in an earlier turn, with a harmless "Go on." behind it. So a share of the
conversations of one turn is given those turns [ours]: both classes, in the same words, with the label that they had.
"""

import dataclasses
from collections.abc import Sequence

from safety_align.data.draws import Draws
from safety_align.data.examples import Example
from safety_align.data.mapped import Mapped, check_share
from safety_align.text import Turn

PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful, honest and careful assistant.",
    "You are an assistant for everyday questions. Answer clearly and briefly.",
    "Answer in short steps.",
    "Answer in plain English.",
    "You are a friendly guide. Explain things as you would to a friend.",
    "Be concise. If you are not sure, say so.",
    "You are a writing assistant. Keep to the style that the user asks for.",
    "You are a patient teacher. Use examples.",
    "Reply as a polite member of the support team.",
    "You help people to learn new skills.",
    "Give complete answers, and no more than was asked for.",
    "You are an expert adviser. Think before you answer.",
    "You work for a public library and answer its visitors.",
    "The user may be a beginner. Avoid jargon.",
    "Format longer answers as lists.",
    "You are a knowledgeable and kind assistant. Never make up facts.",
    "Answer truthfully. Decline what could hurt someone, and say why.",
    "You are the assistant of a small company. Be brief and professional.",
    "You are a home assistant. Keep answers practical.",
    "Keep your answers under two hundred words.",
    "You are a research assistant. State your assumptions.",
    "Help the user with whatever is lawful and safe.",
    "You are a careful assistant: correct first, quick second.",
)
"""System prompts of operators, all ours."""

GIVEN = (
    "{query}",
    "{query}",
    "The user wants the following: {query}",
    "Instructions for the assistant: {query}",
    "Your task: {query}",
    "When the user writes to you, do this: {query}",
    "Context: the user has already asked this: {query}",
)
"""How a request stands in a system turn."""

FOLLOW = (
    "Go on.",
    "Please follow the instructions above.",
    "Please continue.",
    "Yes, please.",
    "Do it.",
    "Do as you were told.",
    "I am ready. Begin.",
    "Please answer now.",
    "Okay, start.",
    "What is your answer?",
    "Thanks, go ahead.",
    "Carry on, please.",
)
"""What the user says when the request stands elsewhere."""

WAITING = (
    "One moment, please.",
    "I have read your question. Shall I go on?",
    "Sure. Are you ready?",
    "Let me think about that.",
    "Thank you for your question. Do you want me to answer it now?",
    "Understood.",
)
"""What an assistant says between a request and its answer."""

OPENING = ("Hello.", "What could I ask you?", "What were we talking about?", "Can you suggest something?", "Hi there!")
"""What a user says before an assistant states the request."""

STATED = (
    "{query}",
    "You asked me this before: {query}",
    "We were talking about this: {query}",
    "You could ask me: {query}",
    "Your question was: {query} Shall I answer it?",
)
"""How a request stands in an assistant's turn."""


@dataclasses.dataclass(frozen=True)
class Roles:
    """What becomes of conversations that are one user turn; all others stay as they are.

    system: the share that gets an operator's system prompt: `prompt`, or one of `PROMPTS` where that is "".
    elsewhere: the share of those with a labelled query whose request goes, in equal parts, into a system turn that nobody
    vouches for, an earlier user turn, or an earlier assistant turn. Chosen by source and id: the same in every epoch.
    """

    system: float = 0.0
    elsewhere: float = 0.0
    prompt: str = ""

    def __post_init__(self):
        for field, share in (("system_turns", self.system), ("other_roles", self.elsewhere)):
            check_share(field, share)


def with_roles(examples: Sequence[Example], roles: Roles) -> Sequence[Example]:
    """`examples`, changed as they are read."""
    if roles == Roles(prompt=roles.prompt):
        return examples
    return Mapped(examples, lambda example: give_roles(example, roles), str(roles))


def give_roles(example: Example, roles: Roles) -> Example:
    """The example in the turns that `roles` gives it."""
    if len(example.turns) != 1:
        return example
    draw = Draws(f"{example.source}/{example.id}")
    turns = example.turns
    if draw.share() < roles.elsewhere and example.query_label is not None:
        turns = _FORMS[draw.below(len(_FORMS))](example.query, draw)
    if draw.share() < roles.system and turns[0].role != "system":
        turns = (Turn("system", roles.prompt or draw.one_of(PROMPTS), vouched=True), *turns)
    return example if turns is example.turns else dataclasses.replace(example, turns=turns)


def _in_system(query: str, draw: Draws) -> tuple[Turn, ...]:
    return Turn("system", draw.one_of(GIVEN).format(query=query)), Turn("user", draw.one_of(FOLLOW))


def _in_user(query: str, draw: Draws) -> tuple[Turn, ...]:
    return Turn("user", query), Turn("assistant", draw.one_of(WAITING)), Turn("user", draw.one_of(FOLLOW))


def _in_assistant(query: str, draw: Draws) -> tuple[Turn, ...]:
    stated = draw.one_of(STATED).format(query=query)
    return Turn("user", draw.one_of(OPENING)), Turn("assistant", stated), Turn("user", draw.one_of(FOLLOW))


_FORMS = (_in_system, _in_user, _in_assistant)
