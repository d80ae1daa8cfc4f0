"""text ↔ ids and spans (query, response, auxiliary)."""

from safety_align.text.chat import TEMPLATES, ChatTemplate, get_template
from safety_align.text.files import check_template_name, load_template, load_tokenizer, save_tokenizer
from safety_align.text.imported import ImportedTokenizer
from safety_align.text.jinja_chat import JinjaTemplate
from safety_align.text.tokenizer import CONTROLS, StreamDecoder, Tokenizer
from safety_align.text.turns import NO_REQUEST, Prompt, Turn, check_turns

__all__ = [
    "CONTROLS", "NO_REQUEST", "TEMPLATES", "ChatTemplate", "ImportedTokenizer", "JinjaTemplate", "Prompt", "StreamDecoder",
    "Tokenizer", "Turn", "check_template_name", "check_turns", "get_template", "load_template", "load_tokenizer", "save_tokenizer",
]  # fmt: skip
