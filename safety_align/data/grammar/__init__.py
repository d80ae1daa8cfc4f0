"""Tables of the embedded corpus. All text is ours; the unsafe answers are mock steps without any technical content."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Domain:
    """A family of goals: every verb with every object, and the steps that answers are made of.

    verbs, objects: a goal is "verb object"; steps: with {object} in places; harm: what a refusal names (malicious
    domains only).
    """

    name: str
    verbs: tuple[str, ...]
    objects: tuple[str, ...]
    steps: tuple[str, ...]
    harm: str = ""


def domain(name: str, verbs: str, objects: str, steps: str, harm: str = "") -> Domain:
    """A domain from comma-separated verbs and objects, and steps separated by full stops."""

    def cut(text: str, mark: str) -> tuple[str, ...]:
        return tuple(" ".join(part.split()) for part in text.split(mark) if part.strip())

    return Domain(name, cut(verbs, ","), cut(objects, ","), cut(steps, "."), harm)
