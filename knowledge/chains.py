"""Lines → chains of exceptions: Python (chained, grouped, with notes), Java and Spark, dbt, and
lone `Type: message` lines as issues, chats and Airflow's UI leave them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from knowledge.loglines import Line
from knowledge.messages import MESSAGE_LINES, clean_message

_MAX_BLOCK = 3000  # lines of one traceback

Frame = tuple[str, int, str]  # file, line, function


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception. `type` is its bare name, `module` what stood before it; `frames` run from
    the outermost call to the innermost; `line` is its 1-based line in the excerpt."""

    type: str
    message: str
    line: int
    module: str = ""
    frames: tuple[Frame, ...] = ()


@dataclass(slots=True)
class Chain:
    """Exceptions of one failure, oldest (the root cause) first. `header` is the log event that
    carried it, with its level and source; `first` and `last` are lines of the excerpt."""

    raised: list[Raised]
    first: int
    last: int
    header: str = ""
    level: str = ""
    source: str = ""
    traceback: bool = True
    groups: list[tuple[int, list[list[Raised]]]] = field(default_factory=list)


_HEADER = re.compile(
    r"(?P<margin>[\s|+│╭─]*)(?:Exception Group |Broken DAG: \[[^\]]{0,300}\] |[A-Z]\w{0,80} +)?"
    r"Traceback \(most recent call last\):?"
)
_FRAME = re.compile(
    r"\s*(?:\| )*\s*File \"(?P<file>[^\"]*)\", line (?P<line>\d+)(?:,? in (?P<name>.*))?\s*$"
)
_JOINT = re.compile(
    r"\s*(?:\| )*\s*(?:The above exception was the direct cause of|"
    r"During handling of the above exception)"
)
_GROUP = re.compile(r"[\s|]*\+[-+ ]{0,3}-{4,}(?P<number> \d+ -+| \.\.\. -+)?-*$")
_EXCEPTION = re.compile(
    r"(?P<type>(?:[A-Za-z_]|\*{3})[\w$]*(?:\.(?:<locals>|\*{3}|[A-Za-z_][\w$]*)){0,12})"
    r"(?::(?: (?P<message>.*))?)?$"
)
_NAMES = (
    r"(?:Error|Exception|ExceptionGroup|Failure|Failed|Timeout|TimedOut|NotFound|Exit|Interrupt"
    r"|Denied|Refused|Expired|Conflict|Forbidden|Unauthorized|Fault|Aborted|Unavailable|Violation"
    r"|Exceeded|Undefined\w{1,20}|Disconnected|NoSuchKey|NoSuchBucket|StopIteration)"
)
# A lone line is an exception where its name says so, or where it is dotted like a class.
_LONE = re.compile(
    rf"(?:(?:(?:[a-z_]\w*|\*{{3}})\.){{1,10}}_?[A-Z]\w*: "
    rf"|(?:(?:\w+|\*{{3}})\.){{0,10}}_?[A-Z]\w*{_NAMES}(?:: |:?$)|Exception: )"
)
_JAVA = re.compile(
    r"(?:Exception in thread \"[^\"]{0,200}\" |: |Caused by: |ERROR )?"
    r"(?P<type>(?:[a-z_][\w$]*\.){1,12}[A-Z][\w$]*)(?:: (?P<message>.*)|$)"
)
_JAVA_AT = re.compile(r"\s*(?:at [\w.$<>/]{1,300}\(|\.\.\. \d+ (?:more|common frames omitted))")
_DBT = re.compile(
    r"\s*(?P<type>(?:Database|Compilation|Runtime|Parsing|Validation|Dependency|Semantic|Internal"
    r"|Env var|YAML) Error|Failure)(?P<where> in (?:model|test|unit[_ ]test|snapshot|seed|source"
    r"|macro|operation|sql operation|on-run-\w+|exposure|analysis) .{1,300})?$"
)


def _split_type(name: str) -> tuple[str, str]:
    module, _, bare = name.replace(".<locals>", "").rpartition(".")
    return module, bare.rsplit("$", 1)[-1] or bare


def _call(frame: re.Match[str]) -> list[Frame]:
    """A frame's call; a SyntaxError's own place is none and has no name."""
    if not frame["name"]:
        return []
    return [(frame["file"], int(frame["line"][:9]), frame["name"].strip())]


def _unbar(text: str) -> str:
    """A line of an exception group's rendering without the bars in front."""
    stripped = text.lstrip()
    while stripped.startswith("| ") or stripped == "|":
        stripped = stripped[2:]
        text = stripped
        if not stripped.lstrip().startswith("| "):
            break
        stripped = stripped.lstrip()
    return text


class _Reader:
    """Walks over the lines once; every method moves `at` forward."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.at = 0
        self.chains: list[Chain] = []
        self.joined = False  # the next traceback belongs to the chain before it

    def read(self) -> list[Chain]:
        while self.at < len(self.lines):
            text = self.lines[self.at].text
            if not text.strip(" |"):
                self.at += 1
            elif _HEADER.match(text):
                self._traceback()
            elif _JOINT.match(text):
                self.joined = bool(self.chains)
                self.at += 1
            elif _GROUP.match(text) and self.chains and self.chains[-1].groups:
                self._group_line(text)
            elif self._java_starts():
                self._java()
            elif _LONE.match(text.lstrip("| ")):
                self._lone()
            elif _DBT.match(text):
                self._dbt()
            else:
                self.joined = False
                self.at += 1
        for chain in self.chains:
            _put_groups_in(chain)
        return [chain for chain in self.chains if chain.raised]

    # --- Python ----------------------------------------------------------------------------

    def _traceback(self) -> None:
        start = self.at
        head = self.lines[start]
        barred = "|" in head.text or "+ Exc" in head.text
        match = _HEADER.match(head.text)
        margin = "" if barred or match is None else match["margin"]
        nested = self._in_message(start)
        frames: list[Frame] = []
        self.at += 1
        limit = min(len(self.lines), start + _MAX_BLOCK)
        while self.at < limit:
            line = self.lines[self.at]
            text = _unbar(line.text) if barred else line.text.removeprefix(margin)
            if line.opens and not head.opens:
                break  # another event cut it off
            if frame := _FRAME.match(text):
                frames.extend(_call(frame))
                self.at += 1
                # Loggers that strip each line leave the source line at the margin.
                self._skip_source(head)
                continue
            if text[:1].isspace() or not text.strip():
                self.at += 1
                continue
            if _HEADER.match(text) or _JOINT.match(text):
                break
            if match := _EXCEPTION.match(text):
                self._raised(match["type"], match["message"] or "", frames, start, nested=nested)
                return
            self.at += 1
        self.joined = False

    def _in_message(self, start: int) -> bool:
        """Whether the traceback stands in the message of the exception right above it: output of
        a child process, so its cause, though it comes later."""
        if self.joined or not self.chains or self.lines[start].opens:
            return False
        last = self.chains[-1]
        return bool(last.raised) and last.last >= self.lines[start - 1].number

    def _skip_source(self, head: Line) -> None:
        if self.at >= len(self.lines):
            return
        text = self.lines[self.at].text
        if (
            head.opens
            and text
            and not text[0].isspace()
            and not _FRAME.match(text)
            and not _LONE.match(text)
        ):
            self.at += 1

    def _lone(self) -> None:
        """`Type: message` with no traceback above it. Frames may follow, as Airflow 3's UI prints
        them; then the outermost exception stands first."""
        start = self.at
        text = self.lines[start].text.lstrip("| ")
        match = _EXCEPTION.match(text)
        if match is None:
            self.at += 1
            return
        last = self.chains[-1] if self.chains else None
        near = last is not None and self._only_blank_since(last)
        after_frames = near and bool(last and last.raised and not last.traceback)
        self.joined = self.joined or near
        self._raised(match["type"], match["message"] or "", [], start, traceback=False)
        frames: list[Frame] = []
        ahead = self.at
        while ahead < len(self.lines):
            # Airflow's UI leaves a blank line between frames.
            if frame := _FRAME.match(self.lines[ahead].text):
                frames.extend(_call(frame))
                self.at = ahead + 1
            elif self.lines[ahead].text.strip():
                break
            ahead += 1
        if frames:
            chain = self.chains[-1]
            told = chain.raised.pop()
            told = Raised(told.type, told.message, told.line, told.module, tuple(frames))
            chain.last = self.lines[self.at - 1].number
            # Newest first where frames follow their exception.
            if after_frames and chain.raised and chain.raised[0].frames:
                chain.raised.insert(0, told)
            else:
                chain.raised.append(told)

    def _only_blank_since(self, chain: Chain) -> bool:
        at = self.at - 1
        while at >= 0 and self.lines[at].number > chain.last:
            if self.lines[at].text.strip():
                return False
            at -= 1
        return True

    def _raised(
        self,
        name: str,
        first: str,
        frames: list[Frame],
        start: int,
        *,
        traceback: bool = True,
        nested: bool = False,
    ) -> None:
        line = self.lines[self.at]
        self.at += 1
        message = clean_message(self._continuation(first, alone=not traceback))
        module, bare = _split_type(name)
        told = Raised(bare, message, line.number, module, tuple(frames))
        end = self.lines[self.at - 1].number
        if nested:
            chain = self.chains[-1]
            chain.raised.insert(len(chain.raised) - 1, told)
            chain.last = end
        elif self.joined and self.chains:
            chain = self.chains[-1]
            if chain.groups and chain.groups[-1][0] < 0:
                chain.groups[-1][1][-1].append(told)
            else:
                chain.raised.append(told)
            chain.last = end
            chain.traceback = chain.traceback or traceback
        else:
            header = self._header(start)
            self.chains.append(
                Chain(
                    [told],
                    self.lines[start].number,
                    end,
                    header.text,
                    header.level,
                    header.source,
                    traceback,
                )
            )
        self.joined = False
        self._group_starts()

    def _continuation(self, first: str, *, alone: bool) -> list[str]:
        message, said = [first], bool(first.strip())
        while self.at < len(self.lines):
            line = self.lines[self.at]
            text = line.text
            bare = text.lstrip("| ")
            if line.opens or _HEADER.match(text) or _JOINT.match(text) or _GROUP.match(text):
                break
            if not bare and said:
                break
            if _FRAME.match(text) or _JAVA_AT.match(text) or self._java_starts():
                break
            if bare and (_LONE.match(bare) or _DBT.match(text)):
                break
            message.append(bare)
            said = said or bool(bare.strip())
            self.at += 1
            if alone and len(message) > MESSAGE_LINES:
                break  # with no traceback around it, what follows may be anything
        return message

    def _header(self, start: int) -> Line:
        """The event that the line at `start` belongs to, or the one right before it."""
        for at in range(start, max(-1, start - 4), -1):
            line = self.lines[at]
            if line.opens and (at < start or not _HEADER.match(line.text)):
                return line
        return Line("", self.lines[start].number, False, self.lines[start].level, "")

    # --- exception groups (PEP 654) ----------------------------------------------------------

    def _group_starts(self) -> None:
        if self.at < len(self.lines) and (match := _GROUP.match(self.lines[self.at].text)):
            chain = self.chains[-1]
            if match["number"] and not (chain.groups and chain.groups[-1][0] < 0):
                # A negative index marks the group as open.
                chain.groups.append((-len(chain.raised), []))

    def _group_line(self, text: str) -> None:
        chain = self.chains[-1]
        index, members = chain.groups[-1]
        match = _GROUP.match(text)
        if match and match["number"]:
            members.append([])
            self.joined = True
        elif index < 0:
            chain.groups[-1] = (-index, members)
            self.joined = False
        chain.last = self.lines[self.at].number
        self.at += 1

    # --- Java --------------------------------------------------------------------------------

    def _java_starts(self) -> bool:
        match = _JAVA.match(self.lines[self.at].text)
        if match is None:
            return False
        if not match.group().startswith(match["type"]):
            return True
        following = self.lines[self.at + 1].text if self.at + 1 < len(self.lines) else ""
        return bool(_JAVA_AT.match(following)) or following.startswith("Caused by: ")

    def _java(self) -> None:
        """Outermost first, as Java prints it; a Python exception right above it (Py4J) wraps it."""
        start = self.at
        told: list[Raised] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            text = line.text
            match = _JAVA.match(text)
            if match and (not told or text.startswith("Caused by: ")):
                self.at += 1
                module, bare = _split_type(match["type"])
                message = clean_message([match["message"] or "", *self._java_message()])
                told.append(Raised(bare, message, line.number, module))
            elif _JAVA_AT.match(text) or text.strip().startswith("Suppressed: "):
                self.at += 1
            else:
                break
        told.reverse()
        end = self.lines[self.at - 1].number
        last = self.chains[-1] if self.chains else None
        if last and last.raised and self._only_blank_since_line(last, start):
            last.raised[-1:-1] = told
            last.last = end
            return
        header = self._header(start)
        self.chains.append(
            Chain(told, self.lines[start].number, end, header.text, header.level, header.source)
        )

    def _java_message(self) -> list[str]:
        """A message's further lines, only where a stack follows them soon."""
        for ahead in range(MESSAGE_LINES):
            at = self.at + ahead
            if at >= len(self.lines) or (self.lines[at].opens and not self.lines[at - 1].opens):
                return []
            text = self.lines[at].text
            if _JAVA_AT.match(text) or text.startswith("Caused by: "):
                found = [line.text for line in self.lines[self.at : at]]
                self.at = at
                return found
        return []

    def _only_blank_since_line(self, chain: Chain, start: int) -> bool:
        return self.lines[start].text.startswith(": ") and all(
            not line.text.strip()
            for line in self.lines[max(0, start - 3) : start]
            if line.number > chain.last
        )

    # --- dbt ---------------------------------------------------------------------------------

    def _dbt(self) -> None:
        """`Database Error in model x (models/x.sql)` and the lines that belong to it."""
        start = self.at
        line = self.lines[start]
        match = _DBT.match(line.text)
        self.at += 1
        message: list[str] = []
        while match and self.at < len(self.lines) and len(message) < MESSAGE_LINES:
            text = self.lines[self.at].text
            if not text.strip() and not message:
                self.at += 1
                continue
            if not text.strip() or not text[:1].isspace() or _DBT.match(text):
                break
            message.append(text)
            self.at += 1
        if match is None or not (message or match["where"]):
            return
        where = (match["where"] or "").split(" (", 1)[0].strip()
        told = Raised(
            match["type"], clean_message([where + (":" if where else ""), *message]), line.number
        )
        end = self.lines[self.at - 1].number
        header = self._header(start)
        self.chains.append(
            Chain([told], line.number, end, header.text, line.level, header.source, False)
        )
        self.joined = False


def _put_groups_in(chain: Chain) -> None:
    """Members go before their group, the last member first, so that read newest first it is the
    group, its first member, that member's causes, its second member."""
    for index, members in reversed(chain.groups):
        at = abs(index) - 1
        flat = [told for member in reversed(members) for told in member]
        chain.raised[at:at] = flat
    chain.groups.clear()


def find_chains(lines: Sequence[Line]) -> list[Chain]:
    """All exception chains of a log in the order they stand in it. Linear in the lines."""
    return _Reader(lines).read()
