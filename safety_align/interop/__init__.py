"""Models of other projects: Hugging Face directories in and out."""

from safety_align.interop.huggingface import Pretrained, add_signal, load_pretrained, save_pretrained

__all__ = ["Pretrained", "add_signal", "load_pretrained", "save_pretrained"]
