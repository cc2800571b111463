"""What can go wrong, and the exit code it ends with.

AiopsError                1  a bug, or something nobody foresaw
├── UsageError            2  what was asked for makes no sense
├── ConfigError           2  a settings file or variable that cannot be used
├── AirflowError          3  Airflow unreachable or refused
│   ├── AirflowUnreachable   no connection, a timeout, 5xx after all retries
│   ├── AirflowAuth          wrong login, expired token
│   ├── AirflowForbidden     the login lacks a right
│   ├── AirflowNotFound      no such DAG, run, task or log
│   ├── AirflowConflict      409: somebody else acts on it
│   └── AirflowAnswer        an answer that is not what the API promises
├── KnowledgeBaseError    4  the knowledge base cannot be used
├── NotifyError           3  a service by which people are told (only warned of)
├── ModelError            4  model or embedder (only from doctor, init, reindex)
└── Refused               5  the gate, a claim or a changed state said no
"""

from __future__ import annotations


class AiopsError(Exception):
    """`message` says what happened to what; `hint` what to do now; `code` names it in JSON."""

    exit_code = 1
    code = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AiopsError):
    exit_code = 2
    code = "usage"


class ConfigError(AiopsError):
    exit_code = 2
    code = "config"


class AirflowError(AiopsError):
    """`unclear`: a changing call whose answer never came or could not be read, so it may have
    taken effect; re-read before repeating it."""

    exit_code = 3
    code = "airflow"

    def __init__(self, message: str, hint: str = "", *, unclear: bool = False) -> None:
        super().__init__(message, hint)
        self.unclear = unclear


class AirflowUnreachable(AirflowError):
    code = "airflow_unreachable"


class AirflowAuth(AirflowError):
    code = "airflow_auth"


class AirflowForbidden(AirflowError):
    code = "airflow_forbidden"


class AirflowNotFound(AirflowError):
    code = "airflow_not_found"


class AirflowConflict(AirflowError):
    code = "airflow_conflict"


class AirflowAnswer(AirflowError):
    code = "airflow_answer"


class KnowledgeBaseError(AiopsError):
    exit_code = 4
    code = "knowledge_base"


class ModelError(AiopsError):
    """`why` is the reason alone, in a few words. `dropped`: an answer came and could not be used,
    and asking the same again would not help; otherwise none came."""

    exit_code = 4
    code = "model"

    def __init__(
        self, message: str, hint: str = "", *, why: str = "", dropped: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.why = why or message
        self.dropped = dropped


class NotifyError(AiopsError):
    """`reached`: whether any service took the message all the same."""

    exit_code = 3
    code = "notify"

    def __init__(self, message: str, hint: str = "", *, reached: bool = False) -> None:
        super().__init__(message, hint)
        self.reached = reached


class Refused(AiopsError):
    exit_code = 5
    code = "refused"
