"""The one error that a user's input can cause: a line naming file, finding and remedy."""

import os


class UserError(Exception):
    """Something in the user's input stops the work; the message is one line a person can act on.

    `where` is the file, folder, option or field, `finding` what is wrong with it (with the value),
    `remedy` what to do. The command line prints `str(error)` and exits with status 2; library
    callers may read the three parts.
    """

    def __init__(self, where: object, finding: str, remedy: str):
        self.where, self.finding, self.remedy = str(where), finding, remedy
        line = f"{self.where}: {finding}; {remedy}"
        super().__init__(" ".join(line.split()))

    def __reduce__(self):  # survives the way back from a worker process
        return type(self), (self.where, self.finding, self.remedy)


def as_user_error(error: UserError | OSError | MemoryError) -> UserError:
    """What no command expected of the disk (full, read-only, not a folder) or of memory."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, MemoryError):
        return UserError(
            "memory", "is not enough for this",
            "close other programs, give fewer --workers or a shorter recording",
        )
    return UserError(
        os.fsdecode(error.filename) if error.filename is not None else "the disk",
        f"cannot be read or written ({error.strerror or type(error).__name__})",
        "check the path, its permissions and the space left",
    )


class RecordingError(UserError):
    """A recording or its scoring cannot be turned into tensors."""


class CorpusError(UserError):
    """A corpus, its shards or its tokenizer are absent, of another version, or do not fit."""


class CheckpointError(UserError):
    """A run folder or checkpoint is absent, damaged, or belongs to something else."""


class ConfigError(UserError):
    """An experiment file or an override is wrong."""


class Interrupted(BaseException):
    """A run stopped on a signal after saving; `status` is the shell's 128 + signal number."""

    def __init__(self, number: int):
        self.status = 128 + number
        super().__init__(f"signal {number}")
