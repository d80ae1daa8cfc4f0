"""Models of other projects: Hugging Face directories in and out."""

from safety_align.interop.bundle import load_model, load_unrolled
from safety_align.interop.huggingface import Pretrained, load_pretrained, save_pretrained

__all__ = ["Pretrained", "load_model", "load_pretrained", "load_unrolled", "save_pretrained"]
