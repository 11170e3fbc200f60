"""
Everything that can go wrong, as one tree::

    SloError                    exit code 2 unless the class says otherwise
    ├── ConfigError             file, environment or option is wrong: key path, value, what was expected
    ├── EnvironmentProblem      this machine cannot do it: memory, disk, versions, CPU
    ├── DeployError
    │   ├── ModelSourceError    model files missing, truncated, or not what they claim to be
    │   ├── StartError          the server process exited or never became ready: tail of its log
    │   ├── RegisterError       the server refused the model description or its launch
    │   └── VerifyError         the model answers, but wrongly: dimension, norm, order of similarities
    ├── QuantizeError           a precision failed its fidelity gate, or a model cannot be converted
    ├── RequestError            one request brought no embedding; counted as bad, never ends a run
    │   ├── RequestTimeout
    │   ├── Unreachable         nobody answers at that address
    │   ├── Unauthorized        401/403: which key was tried, where it came from
    │   ├── Refused             429: the server protects itself
    │   ├── BadRequest          other 4xx: the request can never succeed
    │   ├── ServerFault         5xx
    │   └── BadAnswer           2xx with a wrong count, dimension, or a value that is not a number
    ├── RunError                a measurement could not be carried out as planned
    ├── StoreError              history or records cannot be read or written
    ├── DeliveryError           an alert could not be delivered
    └── Interrupted             the user stopped it; what was started is undone (exit code 128 + signal)

Every message says what is wrong, where, and what to do next. Facts stay attributes.
"""

from __future__ import annotations


class SloError(Exception):
    """Base of all expected failures: shown as one message, never as a traceback.

    `hint` is the next step for the reader, printed on its own line.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class ConfigError(SloError):
    """A configuration value is unusable. `where` names file and key path, or the variable."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.where = where


class EnvironmentProblem(SloError):
    """This machine lacks something that the task needs."""


class DeployError(SloError):
    """The model could not be brought up."""


class ModelSourceError(DeployError):
    """Model files are missing, truncated or inconsistent."""


class StartError(DeployError):
    """The server process exited or never became ready. `log_tail` holds its last lines."""

    def __init__(self, message: str, *, log_tail: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail

    def __str__(self) -> str:
        if not self.log_tail:
            return super().__str__()
        quoted = "\n".join(f"  | {line}" for line in self.log_tail.splitlines())
        text = f"{self.message}\n{quoted}"
        return f"{text}\n  → {self.hint}" if self.hint else text


class RegisterError(DeployError):
    """The server refused to register or launch the model."""


class VerifyError(DeployError):
    """The launched model answers, but not as an embedding model should."""


class QuantizeError(SloError):
    """A model cannot be converted, or no precision passed the fidelity gate."""


class RequestError(SloError):
    """One request brought no embedding.

    `outcome` is the short name under which a record counts it.
    """

    outcome = "error"

    def __init__(
        self,
        message: str,
        *,
        url: str,
        status: int | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
        code: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.url = url
        self.status = status
        self.retry_after_s = retry_after_s
        self.code = code  # the server's own, if it gave one


class RequestTimeout(RequestError):
    """No complete answer within the time allowed."""

    outcome = "timeout"


class Unreachable(RequestError):
    """Connection refused, reset, or no such host."""

    exit_code = 1  # for a one-shot check this is an outage, not a mistake of the caller
    outcome = "unreachable"


class Unauthorized(RequestError):
    """401 or 403."""

    outcome = "unauthorized"


class Refused(RequestError):
    """429: the server sheds load. `retry_after_s` is its own advice, if it gave one."""

    outcome = "refused"


class BadRequest(RequestError):
    """A 4xx other than the above: repeating the request cannot help."""

    outcome = "bad_request"


class ServerFault(RequestError):
    """5xx."""

    outcome = "server_fault"


class BadAnswer(RequestError):
    """A 2xx whose body is not the embeddings that were asked for."""

    outcome = "bad_answer"


class RunError(SloError):
    """A measurement could not be carried out as planned."""


class StoreError(SloError):
    """History or records cannot be read or written."""


class DeliveryError(SloError):
    """An alert could not be delivered."""


class Interrupted(SloError):
    """The user stopped the work: Ctrl-C, or another signal. The exit code is a shell's, 128 and the signal's number."""

    exit_code = 130

    def __init__(self, message: str, *, signal_number: int = 2, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number
