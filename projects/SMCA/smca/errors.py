class InputError(ValueError):
    """What was given (a file, a field, an option, a tensor) cannot be used.

    Its text is one sentence for people, which names it and says what to do. Commands print that sentence and no
    traceback; any other error is a fault of code, of ours or in a part of the user's, and keeps its traceback.
    """


INTERRUPTED = 130
"""Exit status of a command after Ctrl-C, as a shell tells it."""
