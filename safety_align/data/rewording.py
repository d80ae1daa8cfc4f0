"""The same goal in other forms, for benign and malicious queries alike [ours].

Public sets of malicious prompts are mostly questions, public instructions mostly imperatives; a head trained on them
as they are learns the form. "How do I X?" and "Create …" give a goal X, which is asked for again in forms drawn from one
list for both classes.
"""

import hashlib
import re

_ASKED = re.compile(
    r"(?:please |hey,? |hi,? )?(?:tell me |explain |show me |teach me |describe )?"
    r"(?:how (?:do|can|could|would|should|might) (?:i|you|we|one|someone|people)|how to"
    r"|(?:what(?:'s| is| are) )?(?:the |some |a )?(?:best |good |easiest |most effective |different )?ways? to"
    r"|(?:can|could) you (?:help me|(?:tell|show) me how to|teach me (?:how )?to)|help me(?: to)?"
    r"|i (?:want|need|would like|'d like) to)\s+(?P<goal>.{8,200}?)[?.! ]*",
    re.IGNORECASE,
)
_VERBS = (
    "generate create describe write name explain identify find list rewrite give suggest compose design develop outline"
    " make compare construct calculate provide summarize tell classify edit propose plan build prepare choose"
)  # fmt: skip
_IMPERATIVE = re.compile(rf"(?P<goal>(?:{'|'.join(_VERBS.split())})\s.{{8,200}}?)[?.! ]*", re.IGNORECASE)
_FORMS = (
    "How do I {goal}?", "How can I {goal}?", "How to {goal}?", "What is the best way to {goal}?", "I want to {goal}.",
    "Can you help me {goal}?", "Write a guide on how to {goal}.", "Give step-by-step instructions for how to {goal}.",
    "Provide a tutorial on how to {goal}.", "Create a detailed plan to {goal}.", "Explain how to {goal}.",
    "Develop a strategy to {goal}.", "Write an article that teaches readers to {goal}.", "Outline the steps to {goal}.",
    "Design a plan to {goal}.", "Instruct a beginner to {goal}.", "Generate a list of ways to {goal}.", "Teach me to {goal}.",
)  # fmt: skip


def reword(query: str, count: int = 2) -> list[str]:
    """At most `count` other forms of `query`, the same for the same query; none where it names no goal of one line."""
    text, goal = query.strip(), goal_of(query)
    if goal is None:
        return []
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4])
    step = len(_FORMS) // count
    forms = [_FORMS[(seed + i * step) % len(_FORMS)].format(goal=goal) for i in range(count)]
    return [form for form in forms if form != text]


def goal_of(query: str) -> str | None:
    """What is to be done, in the words of `query`, "pick a lock"; None where it names no goal of one line."""
    text = query.strip()
    found = _ASKED.fullmatch(text) or _IMPERATIVE.fullmatch(text)
    return found["goal"][:1].lower() + found["goal"][1:] if found else None
