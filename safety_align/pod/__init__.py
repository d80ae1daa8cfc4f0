"""Compiling for a TPU pod that is not there: memory, arithmetic and communication per chip, by the real compiler.

Needs libtpu (`pip install -e '.[tpu]'`), not a TPU. `topology` must be called before jax is used for anything else.
"""
