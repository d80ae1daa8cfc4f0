"""A harmful behaviour: what attacks ask for, from published files (attacks/behaviors.py) or the embedded corpus."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Behavior:
    """Something harmful to ask for.

    goal: the request in words; target: a compliant answer, or how it would start; category; id: unique in its set;
    prompt: what is sent in place of `goal` where a published attack comes as a finished prompt.
    """

    goal: str
    target: str
    category: str = ""
    id: str = ""
    prompt: str = ""
