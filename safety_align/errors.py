"""The exception types that mean "the input is wrong" or "the run went wrong", as opposed to "the code is wrong"."""


class InputError(ValueError):
    """Bad input from a user: a config, a data row, a checkpoint, a prompt.

    The message is one line that names the input, the value found and the fix. Commands in `launch/` print it
    and exit with code 2; library code lets it propagate. `shared`: all processes of a run raise it at the same place.
    """

    def __init__(self, message: str = "", *, shared: bool = False):
        super().__init__(message)
        self.shared = shared


class RunFailed(RuntimeError):
    """A run that cannot go on, though neither its input nor the code is wrong: it diverged, or the disk is full.

    The message is one line that says what is kept. Commands print it and exit with code 1.
    """
