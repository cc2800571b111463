"""Excerpt text → Signature; pure.

Measured best (on 749 labelled failures): the last three exceptions of the last chain, newest
first, as `Type: message`, masked with codes kept; exceptions that only wrap a child process
opened with up to six masked error lines of the child; the frame beside the text, not in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from knowledge.chains import Chain, Raised, find_chains
from knowledge.loglines import Line, read_lines
from knowledge.masking import mask
from knowledge.messages import advises, clean_message
from knowledge.records import Signature
from knowledge.wrappers import outer_line, wraps

SIGNATURE_VERSION = 1

# `error_class` of failures without an exception: the process died, or nobody heard of it any more.
KILLED = "Killed"
LOST = "HeartbeatLost"

_MAX_EXCEPTIONS = 3
_MAX_INNER_LINES = 6
_MAX_MASKED = 300  # characters of one masked exception
_MAX_HEADLINE = 120

# Exceptions of telling people about a failure, after it: alert mail and callbacks.
_ALERT_FUNCTIONS = frozenset(
    ("email_alert", "handle_failure", "_handle_failure", "_run_finished_callback",
     "run_finished_callback", "_run_task_state_change_callbacks", "_send_task_error_email",
     "_send_error_email_notification", "on_failure_callback", "on_retry_callback", "finalize")
)  # fmt: skip
_ALERT_HEADER = re.compile(
    r"(?i)failed to send (?:e-?mail|an? alert|.{0,20}notification)|"
    r"callbacks?\b|error calling listener|logging error|exception ignored in|openlineage|"
    r"failed to (?:emit|send) "
)
_MAIL_FILES = ("smtplib.py", "/utils/email.py", "smtp/hooks/smtp.py")
_RUNNERS = ("_execute_task", "execute_callable", "_execute_callable", "_run_raw_task", "execute")
# The task runner's own word that this is why the task failed.
_FAILED_EVENT = re.compile(r"(?i)^task failed with exception")
_RUNNER_SOURCE = re.compile(
    r"(?:taskinstance|models|task_runner|models/__init__|__init__)\.py|task$"
)

_KILLED = re.compile(
    r"(?i)\bsigkill\b|\bnegsignal\.|return code:? (?:is |= ?)?-\d|exit_code=-\d|"
    r"process terminated by signal|"
    r"likely out of memory|signal 9\b"
)
_LOST = re.compile(
    r"(?i)detected (?:as )?zombie|heartbeat (?:timeout|time limit exceeded)|"
    r"did not (?:send a|emit) heartbeat|workerlosterror|"
    r"executor reports task instance .{0,300} finished \(failed\)|state mismatch|"
    r"executor .{0,80} reported that the task instance .{0,300} finished with state failed"
)
# What Airflow says of every failure, and what says nothing by itself.
_BOILERPLATE = re.compile(
    r"(?i)^(?:task failed with exception|marking task as|task exited with return code|"
    r"command exited with return code|failed to execute (?:job|task)|immediate failure requested|"
    r"task instance in failure state|task start|current task name|dag name|secrets backends|"
    r"dag bundles|filling up the dagbag|dependencies (?:all )?(?:met|not met)|executing <task|"
    r"starting attempt|started process|running(?: command|:| <task| on host)|exporting|"
    r"tmp dir root|output:?$|\*\*\* |::(?:end)?group|traceback \(most|file \"|"
    r"task instance is in running|previous state of the task|using connection|"
    r"sending (?:signals|15|9)|pre task execution|falling back to local log|"
    r"log file (?:does not exist|not found)|could not read (?:served|remote) log|"
    r"failed to fetch log file|unable to (?:read|fetch) (?:remote )?log|"
    r"post task execution|log message source|done\. pass=|completed with \d+ error|encountered an "
    r"error:?$|retrying|"
    r".{0,200}(?:deprecat|futurewarning|userwarning|\b0 errors?\b|\berrors?[=:] ?0\b))|"
    r"^[-=*# ]*$"
)
_TELLING = re.compile(
    r"(?i)error|exception|fail|fatal|critical|denied|refused|timed? ?-?out|unable|cannot|can't|"
    r"could ?n[o']t|not found|no such|kill|abort|invalid|out ?of ?memory|(?<![a-z])oom|exceed|"
    r"panic|unexpected|missing|undefined|evict|unauthori|forbidden|lost|permission|sigterm|terminating|unreachable|unknown|"
    r"insufficient|backoff|too many|not (?:exist|defined|running|available|permitted)|segmentation|"
    r"conflict|quota|unhealthy|zombie|does not|doesn't|terminated|expired|limit|no route to|"
    r"broken pipe|connection reset|(?:network|host) is down|unavailable|"
    r"\b(?:http|status|response)(?:/\d(?:\.\d)?)?(?: ?(?:status|response))?(?:[ _]?code)?[ :=]{1,2}"
    r"[45]\d\d\b"
)
_GRAVE = frozenset(("ERROR", "CRITICAL", "FATAL", "SEVERE"))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a signature is built from: masked lines and the one a person reads."""

    lines: list[str]
    error_class: str = ""
    wrapper: bool = False
    frame: str | None = None
    headline: str = ""
    line: int | None = None
    place: str | None = None
    raised_from: str = ""


def sign(text: str, numbers: Sequence[int] = ()) -> Signature:
    """The signature of a failure's excerpt (redacted plain text).

    Airflow's events, Airflow's text and a plain traceback of one failure give the same text and
    fingerprint. Never raises; time linear in `text`. A text that says nothing gives an empty
    signature, whose fingerprint "" equals no other. `numbers` are the log's own line numbers of
    the text's lines (Excerpt.numbers): lines that share one came in one event.

    `error_class` is `KILLED` or `LOST` where the process died or was lost without an exception.
    """
    lines = read_lines(text, numbers)
    told = _tell(lines)
    masked = "\n".join(line for line in told.lines if line)
    fingerprint = (
        hashlib.sha256(f"{SIGNATURE_VERSION}\x1f{masked}".encode("utf-8", "replace")).hexdigest()[
            :32
        ]
        if masked
        else ""
    )
    return Signature(
        text=masked,
        fingerprint=fingerprint,
        error_class=told.error_class,
        wrapper=told.wrapper,
        frame=told.frame,
        headline=told.headline,
        line=told.line,
        version=SIGNATURE_VERSION,
        place=told.place,
        raised_from=told.raised_from,
    )


def _tell(lines: Sequence[Line]) -> _Told:
    chains = [told for chain in find_chains(lines) if (told := _without_alerts(chain)).raised]
    chain = _choose(chains)
    killed = _killed(lines, chain)
    if chain is None:
        return killed or _from_lines(lines)
    exceptions = _distinct(reversed(chain.raised))
    real = [told for told in exceptions if not wraps(told)]
    if killed and not (real and _reported(chain)):
        return killed  # an exception that was only logged does not explain a death after it
    if real:
        return _from_exceptions(real, chain, [t for t in exceptions if wraps(t)][:1])
    return _opened(lines, chains, chain, exceptions)


# --- which exceptions -------------------------------------------------------------------------


def _without_alerts(chain: Chain) -> Chain:
    """The chain without what mail and callbacks raised after the failure they told of."""
    alert = bool(_ALERT_HEADER.search(chain.header)) and not _FAILED_EVENT.match(chain.header)
    kept = [told for told in chain.raised if not _is_alert(told, chain)]
    if alert and len(kept) == len(chain.raised):
        kept = kept[:-1] if len(kept) > 1 else []
    return Chain(
        kept, chain.first, chain.last, chain.header, chain.level, chain.source, chain.traceback
    )


def _is_alert(told: Raised, chain: Chain) -> bool:
    names = {name for _, _, name in told.frames}
    if names & _ALERT_FUNCTIONS:
        return True
    mailed = told.module.startswith("smtplib") or any(
        file.endswith(_MAIL_FILES) for file, _, _ in told.frames
    )
    # A mail task's own failure ran through the operator; an alert's did not.
    ran = any(name in _RUNNERS for name in names) or bool(_FAILED_EVENT.match(chain.header))
    return mailed and not ran and len(chain.raised) > 1 and told is not chain.raised[0]


def _choose(chains: Sequence[Chain]) -> Chain | None:
    """The last chain that the task runner itself reported, else the last one."""
    if not chains:
        return None
    return next((chain for chain in reversed(chains) if _reported(chain)), chains[-1])


def _reported(chain: Chain) -> bool:
    """Whether the task runner itself gave this as the reason."""
    return bool(_FAILED_EVENT.match(chain.header)) or (
        chain.traceback and chain.level in _GRAVE and bool(_RUNNER_SOURCE.match(chain.source))
    )


def _distinct(raised: Iterable[Raised]) -> list[Raised]:
    """Libraries wrap an error and repeat its message: the newest of those that say the same."""
    seen: set[str] = set()
    kept = []
    for told in raised:
        said = mask(told.message) or told.type
        if said not in seen:
            seen.add(said)
            kept.append(told)
    return kept


def _newest(real: list[Raised], chain: Chain) -> list[Raised]:
    """The newest three. Where the chain is longer and Java's, the root cause is its last word."""
    java = any("." in told.module and not told.frames for told in real) and chain.traceback
    if java and len(real) > _MAX_EXCEPTIONS:
        return [real[0], *real[-2:]]
    return real[:_MAX_EXCEPTIONS]


def _masked(told: Raised) -> str:
    kind = told.type.lstrip("_")
    return mask(f"{kind}: {told.message}" if told.message else kind)[:_MAX_MASKED]


def _from_exceptions(real: list[Raised], chain: Chain, wrappers: Sequence[Raised]) -> _Told:
    newest = _newest(real, chain)
    chosen = _most_telling(newest)
    frame, place = _user_frame(newest)
    return _Told(
        [*map(_masked, newest), *map(outer_line, wrappers)],
        newest[0].type.lstrip("_"),
        frame=frame,
        headline=_headline(chosen),
        line=chosen.line,
        place=place,
        raised_from=_raised_from(chosen, real, chain),
    )


def _raised_from(chosen: Raised, real: Sequence[Raised], chain: Chain) -> str:
    """The root cause, where it says more than the newest exception; of an exception group nobody
    can say which of its members it was."""
    root = real[-1]
    grouped = any(told.type.endswith("ExceptionGroup") for told in chain.raised)
    repeats = root is chosen or (root.message or root.type) in chosen.message
    return "" if grouped or repeats or chosen is not real[0] else _headline(root)


def _most_telling(real: Sequence[Raised]) -> Raised:
    """The newest exception, unless it only repeats an older one at greater length."""

    def fits(told: Raised) -> bool:
        return bool(told.message) and len(told.type) + len(told.message) + 2 <= _MAX_HEADLINE

    return next((told for told in (real[0], *reversed(real)) if fits(told)), real[0])


def _headline(told: Raised) -> str:
    kind = told.type.lstrip("_")
    return _short(f"{kind}: {told.message}" if told.message else kind)


def _short(text: str) -> str:
    clean = "".join(char if char.isprintable() else " " for char in " ".join(text.split()))
    return clean if len(clean) <= _MAX_HEADLINE else clean[: _MAX_HEADLINE - 1] + "…"


_LIBRARY = re.compile(
    r"site-packages|dist-packages|/lib/python\d|/local/python|[/\\]python3?\.?\d*[/\\](?!.*dags)|^<|"
    r"/airflow/(?:models|sdk|utils|operators|providers|task|sensors|hooks|cli|jobs|executors)/|"
    r"^/usr/(?:local/)?lib"
)


def _user_frame(real: Sequence[Raised]) -> tuple[str, str] | tuple[None, None]:
    """The innermost call in the user's own code, of the newest exception that has one, as
    `file.py:function` and, for a person, as `/path/file.py:12 in function`."""
    for told in real:
        for file, line, name in reversed(told.frames):
            if file and not _LIBRARY.search(file):
                base = file.replace("\\", "/").rpartition("/")[2]
                return f"{base}:{name}"[:200], _short(f"{file}:{line} in {name}")
    return None, None


# --- what a child process said ----------------------------------------------------------------


def _opened(
    lines: Sequence[Line], chains: Sequence[Chain], chain: Chain, wrappers: list[Raised]
) -> _Told:
    """Only wrappers were raised: the child's own exceptions, or its last error lines, say why."""
    for inner in reversed(chains):
        if inner is chain or inner.first > chain.last:
            continue
        real = [told for told in _distinct(reversed(inner.raised)) if not wraps(told)]
        if real:
            return _from_exceptions(real, inner, wrappers[:1])
    known = {number for told in chains for number in range(told.first, told.last + 1)}
    before = [line for line in lines if line.number < chain.first and line.number not in known]
    found = _error_lines(before, grave_first=False)
    masked = [_masked_line(line) for line in found]
    told = wrappers[0]
    if not found:
        outer = [_masked(told) for told in wrappers[:_MAX_EXCEPTIONS]]
        return _Told(outer, wrapper=True, headline=_headline(told), line=told.line)
    return _Told(
        [*dict.fromkeys(reversed(masked)), outer_line(told)],
        headline=_short(found[-1].text),
        line=found[-1].number,
    )


def _masked_line(line: Line) -> str:
    return mask(clean_message([line.text]))[:_MAX_MASKED]


def _error_lines(lines: Sequence[Line], *, grave_first: bool) -> list[Line]:
    """The last lines that tell of an error, oldest first."""
    telling: list[Line] = []
    for line in lines:
        if (
            line.text.strip()
            and not _BOILERPLATE.match(line.text.strip())
            and _TELLING.search(line.text[:1000])
            and not (telling and advises(line.text, telling[-1].text))
        ):
            telling.append(line)
    grave = [line for line in telling if line.level in _GRAVE]
    if grave_first and grave:
        telling = grave
    distinct = {_masked_line(line): line for line in telling[-200:]}
    return sorted(distinct.values(), key=lambda line: line.number)[-_MAX_INNER_LINES:]


# --- no exception at all ----------------------------------------------------------------------


def _killed(lines: Sequence[Line], chain: Chain | None) -> _Told | None:
    """The process was killed or lost, and no exception after it says more."""
    after = chain.last if chain and not all(map(wraps, chain.raised)) else 0
    for kind, pattern in ((KILLED, _KILLED), (LOST, _LOST)):
        for line in reversed(lines):
            if line.number > after and pattern.search(line.text[:1000]):
                if chain and _in_child(line):
                    break  # a child's death is what the wrapper tells of
                message = clean_message([_word_of_death(line.text)])
                return _Told(
                    [f"{kind}: {mask(message)}"[:_MAX_MASKED]],
                    kind,
                    headline=_short(message),
                    line=line.number,
                )
    return None


def _in_child(line: Line) -> bool:
    return line.level not in _GRAVE and not re.match(r"local_task_job|supervisor|task", line.source)


def _word_of_death(text: str) -> str:
    """The sentence itself, without the documents that schedulers append to it."""
    return re.split(r": ?\{|\bext\(", text, maxsplit=1)[0].strip() or text


def _from_lines(lines: Sequence[Line]) -> _Told:
    found = _error_lines(lines, grave_first=True)
    guessed = not found
    if guessed:
        # Nothing looks like an error; a short note of a person (a runbook's symptom) counts all
        # the same, but is never enough to act on.
        found = [
            line
            for line in lines
            if line.text.strip() and not _BOILERPLATE.match(line.text.strip())
        ][-_MAX_EXCEPTIONS:]
    masked = [_masked_line(line) for line in found]
    if not found:
        return _Told([])
    last = found[-1].text
    return _Told(
        list(dict.fromkeys(reversed(masked))),
        wrapper=guessed,
        headline=_short(f"no clear error; the log ends: {last}" if guessed else last),
        line=found[-1].number,
    )
