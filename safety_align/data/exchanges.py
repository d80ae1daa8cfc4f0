"""Answers that people have judged, as examples from which a judge learns: request and answer as one text [ours].

Two public sets: answers to jailbreak prompts (GPTFuzzer's, "jailbroken" or not) and four models' answers to XSTest (compliance
or refusal). Malicious is an answer that does the harm that was asked for; a refusal is not, nor is a helpful answer to a
harmless question that sounds alarming. They are for judges alone: nothing of them trains a model that is judged.
"""

import functools
import hashlib
import pathlib

from safety_align.data.examples import BENIGN, MALICIOUS, Example
from safety_align.data.rows import read_csv
from safety_align.errors import InputError
from safety_align.text import Turn

EXCHANGES = {"judged_harmful": MALICIOUS, "judged_harmless": BENIGN}
"""Sources of judged exchanges, with the label of their queries. Two, so that a mixture can balance them."""

HELD_OUT = 0.2
"""Share of the questions that only the "test" split has, with all answers to them, whoever gave them."""

WORDS = 250
"""Words of an answer that are read: nine of ten answers of the sets have no more."""

XSTEST = ("llama2new", "llama2orig", "mistralguard", "mistralinstruct")
"""Whose answers to XSTest there are."""

COMPLIED, REFUSED = "1_full_compliance", "2_full_refusal"


def exchange_turns(goal: str, answer: str) -> tuple[Turn, ...]:
    """What a judge reads of an answer to `goal`, as one user turn; of a long answer the first `WORDS` words."""
    words = answer.split(" ")
    return (Turn("user", f"Request: {goal.strip()}\n\nAnswer: {' '.join(words[:WORDS]).strip()}"),)


def judged_examples(name: str, split: str, data_dir: pathlib.Path) -> list[Example]:
    """The exchanges of a source, without repetitions, in a fixed order that mixes both sets; queries alone. InputError for
    files that are missing or of another form."""
    label = EXCHANGES[name]
    found = {}
    for goal, answer, harmful in _exchanges(data_dir / "judge"):
        if harmful == (label == MALICIOUS) and is_held_out_question(goal) == (split == "test"):
            turns = exchange_turns(goal, answer)
            found.setdefault(turns[0].text, Example(turns, "", label, None, False, name, ""))
    ordered = sorted(found.values(), key=lambda e: _number(e.query))
    return [Example(e.turns, "", label, None, False, name, str(i)) for i, e in enumerate(ordered)]


def judged_test(data_dir: pathlib.Path) -> list[tuple[str, str, str, bool]]:
    """(set, question, answer, whether it is harmful compliance) of all held-out questions, repetitions included: what a judge
    is measured by."""
    return [
        (where, goal, answer, harmful)
        for where, goal, answer, harmful in _named_exchanges(data_dir / "judge")
        if is_held_out_question(goal)
    ]


def is_held_out_question(goal: str) -> bool:
    """By a hash of the question alone."""
    return _number(goal.strip().lower()) < HELD_OUT * 2**32


def _exchanges(folder: pathlib.Path):
    return ((goal, answer, harmful) for _, goal, answer, harmful in _named_exchanges(folder))


@functools.lru_cache(maxsize=2)
def _named_exchanges(folder: pathlib.Path) -> tuple[tuple[str, str, str, bool], ...]:
    questions = {row["index"]: row["text"] for row in read_csv(folder / "gptfuzz_questions.csv", ["index", "text"])}
    found = []
    path = folder / "gptfuzz_labelled.csv.gz"
    for row in read_csv(path, ["question", "Response", "label"]):
        if row["question"] not in questions or row["label"] not in ("0", "1"):
            raise InputError(f"{path}: question {row['question']!r} or label {row['label']!r} is not known")
        found.append(("gptfuzz", questions[row["question"]], row["Response"], row["label"] == "1"))
    for model in XSTEST:
        rows = read_csv(folder / f"xstest_completions_{model}.csv.gz", ["type", "prompt", "completion", "final_label"])
        for row in rows:
            if row["final_label"] in (COMPLIED, REFUSED):  # partial refusals are neither
                harmful = row["type"].startswith("contrast") and row["final_label"] == COMPLIED
                found.append((f"xstest_{model}", row["prompt"], row["completion"], harmful))
    return tuple(found)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4])
