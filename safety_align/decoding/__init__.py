"""Strategic attention and strategic decoding (docs/method.md sections 5-7): the verdict is re-evaluated while text is
generated, and acted on. Knows the model only through `hidden` (prefill) and `extend`."""

from safety_align.decoding.config import FIXED_REFUSAL, REFUSAL_PREFIX, GateConfig, Sampling
from safety_align.decoding.decoder import Decoder
from safety_align.decoding.first_pass import prefill
from safety_align.decoding.generator import Generator, Piece
from safety_align.decoding.loop import decode
from safety_align.decoding.requests import CheckResult, Request, Result, SoftTokens
from safety_align.decoding.schedule import parse_schedule
from safety_align.decoding.scoring import score_queries, score_segments, score_windows
from safety_align.decoding.state import Layout

__all__ = [
    "FIXED_REFUSAL", "REFUSAL_PREFIX", "CheckResult", "Decoder", "GateConfig", "Generator", "Layout", "Piece", "Request", "Result",
    "Sampling", "SoftTokens", "decode", "parse_schedule", "prefill", "score_queries", "score_segments", "score_windows",
]  # fmt: skip
