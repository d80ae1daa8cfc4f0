"""Models in the llama2.c format (one .bin file of float32, one tokenizer .bin): a small real Llama to test against.

Layout: seven int32 (width, MLP width, layers, heads, key/value heads, vocabulary, length; a positive vocabulary means
tied embeddings), then the arrays below, each [layers, out, in] where layered. RoPE pairs are interleaved there
(2i, 2i + 1) and half-split here (i, i + E/2): query and key rows are permuted.
"""

import os
import pathlib
import struct

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from safety_align.errors import InputError
from safety_align.model import TransformerConfig


def load_llama2c(path: str | os.PathLike) -> tuple[TransformerConfig, dict]:
    """Reads a model; parameters are numpy, layers stacked. InputError if the file is not of this format."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    data = path.read_bytes()
    if len(data) < 28:
        raise InputError(f"{path} is too short for a llama2.c model")
    width, mlp, layers, heads, kv_heads, vocab, length = struct.unpack("<7i", data[:28])
    if min(width, mlp, layers, heads, kv_heads, length) < 1 or vocab == 0 or width % heads:
        raise InputError(f"{path} is not a llama2.c model: its header is {struct.unpack('<7i', data[:28])}")
    size, kv, tied, vocab = width // heads, width // heads * kv_heads, vocab > 0, abs(vocab)
    shapes = {
        "embedding": (vocab, width),
        "attention_norm": (layers, width),
        "wq": (layers, width, width),
        "wk": (layers, kv, width),
        "wv": (layers, kv, width),
        "wo": (layers, width, width),
        "mlp_norm": (layers, width),
        "gate": (layers, mlp, width),
        "down": (layers, width, mlp),
        "up": (layers, mlp, width),
        "final_norm": (width,),
        "frequencies": (length * size,),  # cosines and sines, recomputed here
    } | ({} if tied else {"lm_head": (vocab, width)})
    expected = 28 + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    if len(data) != expected:
        raise InputError(f"{path} has {len(data)} bytes; its header describes {expected}")
    found, place = {}, 28
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        found[name] = np.frombuffer(data, "<f4", count, place).reshape(shape)
        place += 4 * count

    def heads_last(matrix, count, rotary):
        matrix = matrix.reshape(layers, count, size, width)
        if rotary:
            matrix = np.concatenate([matrix[:, :, 0::2], matrix[:, :, 1::2]], axis=2)
        return matrix.transpose(0, 3, 1, 2)  # [L, D, heads, E]

    block = {
        "attention": {
            "wq": heads_last(found["wq"], heads, True),
            "wk": heads_last(found["wk"], kv_heads, True),
            "wv": heads_last(found["wv"], kv_heads, False),
            "wo": found["wo"].transpose(0, 2, 1).reshape(layers, heads, size, width),
        },
        "attention_norm": {"scale": found["attention_norm"]},
        "mlp_norm": {"scale": found["mlp_norm"]},
        "mlp": {name: found[name].transpose(0, 2, 1) for name in ("gate", "up", "down")},
    }
    params = {"embedding": found["embedding"], "final_norm": {"scale": found["final_norm"]}, "layers": {"block": block}}
    if not tied:
        params["lm_head"] = found["lm_head"].T
    config = TransformerConfig(
        vocab_size=vocab, width=width, layers=layers, heads=heads, kv_heads=kv_heads, head_dim=size, mlp_width=mlp,
        tied_embeddings=tied, safety_signal=False,
    )  # fmt: skip
    return config, params


def read_llama2c_tokenizer(path: str | os.PathLike) -> bytes:
    """The tokenizer .bin (int32 longest piece, then per piece float32 score, int32 length, bytes) as a SentencePiece
    model, serialised: what `tokenizer.model` holds."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    data, place, pieces = path.read_bytes(), 4, []
    while place < len(data):
        try:
            score, length = struct.unpack_from("<fi", data, place)
            text = data[place + 8 : place + 8 + length].decode("utf-8")
        except (struct.error, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not a llama2.c tokenizer: {error}") from error
        place += 8 + length
        pieces.append((text, score))
    if place != len(data) or len(pieces) < 259:
        raise InputError(f"{path} is not a llama2.c tokenizer, or is cut off")
    model = sentencepiece_model_pb2.ModelProto()
    kinds = model.SentencePiece
    for number, (text, score) in enumerate(pieces):
        kind = (kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL)[number] if number < 3 else kinds.NORMAL
        kind = kinds.BYTE if 3 <= number < 259 else kind
        text = ("<unk>", "<s>", "</s>")[number] if number < 3 else text.replace(" ", "\u2581")
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.vocab_size = len(pieces)
    model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = (
        0,
        1,
        2,
        -1,
    )
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    serialised = model.SerializeToString()
    sentencepiece.SentencePieceProcessor(model_proto=serialised)  # raises on what it cannot use
    return serialised
