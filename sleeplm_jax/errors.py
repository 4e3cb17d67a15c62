"""The one error that a user's input can cause: a line naming file, finding and remedy."""


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
