"""Explained refusals for malicious prompts that come without an answer: a small grammar, keyed on the prompt."""

import hashlib
import re

REFUSAL_PREFIX = "Sorry, I cannot fulfill your request because"
"""What every refusal starts with (paper; the decoder forces the same words)."""

# (words that suggest a harm, what the harm is)
_HARMS = (
    (
        r"hack|malware|virus|phish|password|ransom|ddos|exploit|keylog|spyware",
        "break into systems or data that belong to someone else",
    ),
    (r"steal|rob|shoplift|burgl|theft|pickpocket|break into", "take what belongs to other people"),
    (r"bomb|explos|weapon|gun|ammun|grenade|3d print", "make weapons that could injure or kill people"),
    (r"drug|meth|cocaine|heroin|opioid|marijuana|pill", "make or trade dangerous drugs"),
    (r"poison|kill|murder|assassin|strangl|stab|hurt|injur|attack|violen|torture", "cause serious injury or death"),
    (r"suicide|self.harm|anorex|starv|overdose", "lead to someone harming themselves"),
    (
        r"racis|race|black|jew|muslim|immigrant|gay|lesbian|women|ethnic|nazi|disab|refugee",
        "spread hatred against a group of people",
    ),
    (
        r"fraud|scam|launder|tax|counterfeit|forge|fake|credit card|identity|ponzi|insider",
        "deceive people and cost them money",
    ),
    (r"stalk|track|spy|dox|address|personal info|private", "invade the privacy of another person"),
    (r"bully|harass|insult|threat|blackmail|intimidat|humiliat|rumou?r", "frighten or humiliate another person"),
    (r"terror|extremis|isis|radical|massacre|genocide", "support violence against many people"),
    (r"misinformation|conspiracy|hoax|propaganda|vaccin|election|fake news", "mislead people about important facts"),
    (r"sex|porn|nude|rape", "exploit or violate another person"),
    (r"animal|dog|cat|wildlife|poach|ivory", "make an animal suffer"),
    (r"police|law|illegal|smuggl|evade|traffick", "help someone break the law"),
)
_HARMS = tuple((re.compile(pattern, re.IGNORECASE), harm) for pattern, harm in _HARMS)
_OTHER = "harm other people or help someone to do so"
_REASONS = (
    "it could {harm}",
    "helping with it might {harm}",
    "an answer could be used to {harm}",
    "what you ask for would {harm}",
)
_STANDS = (
    "I do not want to contribute to that.",
    "That is dangerous and wrong.",
    "It would not be safe or responsible.",
    "Such acts are often illegal and always hurt someone.",
    "People could be hurt by it.",
)
_OFFERS = (
    "I am happy to help with a safe and legal alternative instead.",
    "If something is troubling you, please talk to someone you trust.",
    "I can explain how people protect themselves from this, if you like.",
    "If you have a different question, I will gladly help.",
    "Please consider a lawful way to reach your goal.",
)


def explained_refusal(prompt: str) -> str:
    """A refusal of 20-40 words that names the likely harm; the same for the same prompt."""
    harm = next((harm for pattern, harm in _HARMS if pattern.search(prompt)), _OTHER)
    seed = hashlib.sha256(prompt.encode("utf-8", "replace")).digest()
    reason, stand, offer = (part[seed[i] % len(part)] for i, part in enumerate((_REASONS, _STANDS, _OFFERS)))
    return f"{REFUSAL_PREFIX} {reason.format(harm=harm)}. {stand} {offer}"
