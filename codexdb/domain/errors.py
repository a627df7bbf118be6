"""One family of errors, each with a machine-readable kind. The edges map them; nobody greps texts."""

from typing import ClassVar


class CodexDBError(Exception):
    """Something a caller can be told in one sentence.

    `kind` is stable and documented in docs/tools.md; `retryable` says whether the same call may succeed later.
    """

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    @property
    def message(self) -> str:
        return str(self)


class InvalidArgumentsError(CodexDBError):
    """An argument is missing, of the wrong type or outside its bounds."""

    kind = "invalid_arguments"


class InvalidConfigError(CodexDBError):
    """config.toml, a profile or an override holds something that cannot be used."""

    kind = "invalid_config"


class SessionNotFoundError(CodexDBError):
    """No session of that id in this database."""

    kind = "session_not_found"


class StoreBusyError(CodexDBError):
    """Another process held the database for longer than the caller may wait. Nothing was written."""

    kind = "store_busy"
    retryable = True


class SchemaBusyError(StoreBusyError):
    """The database is being upgraded, or cannot be while others have it open. Nothing was written."""

    kind = "schema_busy"


class StoreRefusedError(CodexDBError):
    """The database file cannot be used at all: newer schema, not a database, no permission."""

    kind = "store_refused"


class StoreFailedError(CodexDBError):
    """A write failed on its way to the disk (full, read-only, I/O error). Whether it is kept is not known."""

    kind = "store_failed"


class FenceLostError(CodexDBError):
    """The turn is no longer ours: another worker took it, or it ended. Nothing was written."""

    kind = "fence_lost"


class ModelError(CodexDBError):
    """The model endpoint failed, and no further retry is due."""

    kind = "model_error"


class BudgetExhaustedError(CodexDBError):
    """The turn has used up the requests, tokens or seconds that config.toml allows it."""

    kind = "budget_exhausted"


class CredentialsMissingError(CodexDBError):
    """The turn needs a secret that is neither in the environment nor in config.toml."""

    kind = "credentials_missing"


class ShuttingDownError(CodexDBError):
    """The server is going down and takes no new work."""

    kind = "shutting_down"
    retryable = True
