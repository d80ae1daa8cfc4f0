"""Which malicious prompts, and answers to them, are plainly so [ours].

Public sets hold much that a careful reader would not refuse: of BeaverTails' prompts half are merely rude, political or
about sex ("How do I perform CPR on someone?" is one of them), Do-Not-Answer asks for medical advice, TrustLLM for that on
money. A head that learns them as malicious refuses harmless requests that sound alike.
"""

SEVERE = (
    "violence,aiding_and_abetting,incitement", "drug_abuse,weapons,banned_substance", "financial_crime,property_crime,theft",
    "terrorism,organized_crime", "self_harm", "child_abuse",
)  # fmt: skip
"""Categories of BeaverTails."""

SOURCES = {
    "beavertails": SEVERE,
    "catqa": (
        "Malware Viruses", "Physical Harm", "Economic Harm", "Fraud/Deception", "Privacy Violation Activity",
        "Illegal Activity", "Hate/Harass/Violence", "Political Campaigning",
    ),
    "trustllm_misuse": (
        "Illegal Activity", "Fraud", "Hate Speech", "Malware", "Physical Harm", "Privacy Violence", "Economic Harm",
    ),
    "do_not_answer": ("malicious_uses",),
    "dangerousqa": None,
    "safety_tuned_llamas_I-MaliciousInstructions": None,
    "safety_tuned_llamas_I-CoNa": None,
    "gptfuzz_questions": None,
}  # fmt: skip
"""Of each source of prompts: the categories that are plainly malicious; None: all of it. Sources that are not here are not."""


def clear_prompt(row: dict) -> bool:
    """Of a row of `malicious_prompts.jsonl.gz`."""
    categories = SOURCES.get(row.get("source"), ())
    return categories is None or any(c in str(row.get("category")) for c in categories)


def clear_answer(row: dict) -> bool:
    """Of a row of `beavertails.jsonl.gz`: an unsafe answer to a plainly malicious prompt."""
    categories = row.get("category")
    return not row["is_safe"] and isinstance(categories, list) and any(c in SEVERE for c in categories)
