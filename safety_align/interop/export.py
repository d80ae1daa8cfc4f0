"""Our own tokenizer and template in the form that Hugging Face tools read."""

import json
import pathlib

from safety_align.errors import InputError
from safety_align.text import CONTROLS, ChatTemplate, ImportedTokenizer, JinjaTemplate, Tokenizer

NAMES = tuple(f"<|{name}|>" for name in CONTROLS)
"""Texts of our control tokens; no text encodes to one, in `ImportedTokenizer`."""

PLAIN_JINJA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end_of_turn|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The template "plain" of text/chat.py."""


def save_tokenizer_files(
    tokenizer: Tokenizer | ImportedTokenizer, template: ChatTemplate | JinjaTemplate, directory: pathlib.Path
) -> None:
    """Writes tokenizer.json and tokenizer_config.json; an imported tokenizer's files are copied as they were."""
    if isinstance(tokenizer, ImportedTokenizer):
        tokenizer.save(directory)
        return
    if template.name != "plain":
        raise InputError(f'a tokenizer of ours is exported with the template "plain" only, not {template.name!r}')
    saved = json.loads(tokenizer.to_json())
    saved["model"]["vocab"] = {name: i for i, name in enumerate(NAMES)} | {
        piece: i + len(NAMES) for piece, i in saved["model"]["vocab"].items()
    }
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    saved["added_tokens"] = [dict(id=i, content=name, **flags) for i, name in enumerate(NAMES)]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": NAMES[Tokenizer.bos_id],
        "eos_token": NAMES[Tokenizer.eos_id],
        "pad_token": NAMES[Tokenizer.pad_id],
        "clean_up_tokenization_spaces": False,
        "chat_template": PLAIN_JINJA,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(json.dumps(saved), "utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
