"""A machine that fails in the midst of a training."""

from safety_align.training import loop


def dying(batches: int) -> type[loop.Pipeline]:
    """In place of `loop.Pipeline`: hands out so many batches, then raises KeyboardInterrupt."""
    left = batches

    class Dying(loop.Pipeline):
        def __next__(self):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return super().__next__()

    return Dying
