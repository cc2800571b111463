"""Which pieces of a person's text are what a log says, and which are commands, code or talk."""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge.runbooks.markdown import Block
from knowledge.signature import sign

_LONGEST = 4_000  # characters looked at of a line
_MOST = 8  # of one entry; more is a list of everything that ever happened

# Languages that people name at their own commands and code rather than at a log.
_CODE = frozenset(
    ("bash", "sh", "shell", "zsh", "fish", "bat", "cmd", "powershell", "ps1", "sql", "psql",
     "pgsql", "mysql", "python", "py", "python3", "hcl", "terraform", "tf", "diff", "dockerfile",
     "docker", "java", "scala", "js", "javascript", "ts", "html", "css", "jinja", "make",
     "mermaid", "plantuml", "promql", "markdown", "md")
)  # fmt: skip
# … and at what may be a log, or a file.
_DATA = frozenset(
    ("json", "console", "shell-session", "yaml", "yml", "xml", "http", "toml", "ini", "cfg",
     "conf", "properties", "env", "csv")
)  # fmt: skip
_PROMPT = re.compile(
    r"\s*(?:[\w@:~/.-]{0,60}\$|[a-z][\w@:~/.-]{0,60}[#%]|>>>|\.\.\.|PS [^>]{0,80}>) "
)
_COMMAND = re.compile(
    r"\s*(?:sudo )?(?:airflow|kubectl|docker(?:-compose)?|psql|mysql|aws|gcloud|"
    r"gsutil|az|bq|snowsql|systemctl|journalctl|curl|wget|ssh|scp|sftp|python3?|pip3?|export|cd|"
    r"ls|df|du|rm|mv|cp|cat|tail|grep|ps|git|helm|terraform|dbt|spark-submit|"
    r"yarn|hdfs|kinit|openssl|nc|ping|dig|nslookup|telnet|redis-cli|kafka-[\w-]+|echo|chmod|"
    r"chown|sqlplus|sqlcmd|aiops|uv|SELECT|select|UPDATE|DELETE FROM|ALTER|VACUUM|SHOW|GRANT|"
    r"INSERT INTO|KILL|CALL|import \w+|from \w+ import|def|with DAG)(?=\s|$)"
)
# What only a log says: an exception with its message, a level, a vendor's code.
_RAISED = re.compile(
    r"Traceback \(most recent call last\)|"
    r"(?:^|[\s\"'(:.])[A-Za-z_]\w*(?:Error|Exception|Timeout|Warning|Interrupt)\b(?=:|$|\s*\()|"
    r"\b(?:ERROR|FATAL|CRITICAL|SEVERE)\b|\b(?:ORA|DPY|TNS|PLS)-\d{4,5}\b|"
    r"\b(?:SIGKILL|SIGTERM|OOMKilled|Negsignal|CrashLoopBackOff|ImagePullBackOff)\b|"
    r"^(?:error|fatal|FAILED)\b *[:\[(]|\[Errno -?\d+\]|\bcommand not found\b",
    re.MULTILINE,
)
_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`)(.+?)(?<!`)\1(?!`)")
_QUOTED = re.compile(r"\"([^\"\n]{8,300})\"|[“„«]\s*([^”“»\n]{8,300}?)\s*[”“»]")
_TWO_WORDS = re.compile(r"\S+\s+\S+")


def says_error(text: str) -> bool:
    """Whether only a failure's log would say this."""
    return bool(_RAISED.search(text))


def tells(text: str) -> bool:
    """Whether a signature can be made of it: words that tell of an error, two or more."""
    signature = sign(text)
    return bool(signature.text) and not signature.wrapper and bool(_TWO_WORDS.search(text))


def from_code(block: Block, *, said_to_be: bool) -> list[str]:
    """The log sample in a code block, if it is one; `said_to_be` where it stands below a heading
    that promises one. Commands in front of their output are left out."""
    lines = [line for line in block.text.split("\n") if not _PROMPT.match(line)]
    text = "\n".join(lines).strip("\n")
    if not text.strip() or not sign(text).text:
        return []
    if says_error(text) and not _only_commands(lines):
        return [text]
    if block.info in _CODE or _only_commands(lines):
        return []
    if said_to_be:
        return [text]
    shown = block.info not in _DATA or len(lines) < len(block.text.split("\n"))  # an output
    return [text] if shown and tells(text) else []


def _only_commands(lines: list[str]) -> bool:
    told = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "--"))]
    return not told or bool(_COMMAND.match(told[0]))


def from_words(text: str) -> list[str]:
    """The error texts quoted in a line: in code spans or quotation marks, or the line itself
    where it is one."""
    text = text[:_LONGEST]
    spans = [span[2].strip() for span in _SPAN.finditer(text)]
    found = [span for span in spans if _is_error(span)]
    if found:
        return found
    rest = _SPAN.sub(" ", text)
    quotes = [quote for pair in _QUOTED.findall(rest) for quote in pair if quote]
    found = [quote for quote in quotes if _is_error(quote)]
    if found:
        return found
    bare = plain(text)
    raised = re.match(r"(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?::| \()|ORA-\d+|ERROR\b", bare)
    return [bare] if raised else []


def _is_error(text: str) -> bool:
    if _COMMAND.match(text) or _PROMPT.match(text + " "):
        return False
    return says_error(text) or tells(text)


def symptoms(blocks: Sequence[Block], *, said_to_be: bool) -> list[str]:
    """The error texts in these blocks. Below a heading that promises symptoms (`said_to_be`) what
    is described in words counts where nothing is quoted."""
    found: list[str] = []
    for block in blocks:
        if block.kind == "code":
            found += from_code(block, said_to_be=said_to_be)
        elif block.kind in ("item", "text"):
            found += from_words(block.text)
        elif block.kind == "table":
            for row in block.rows:
                found += [text for cell in row for text in from_words(cell)]
    if not found and said_to_be:
        found = [plain(each) for each in _described(blocks)]
    return list(dict.fromkeys(text for text in found if text.strip()))[:_MOST]


def _described(blocks: Sequence[Block]) -> list[str]:
    """Items, or else paragraphs."""
    items = [block.text for block in blocks if block.kind == "item"]
    if items:
        return items
    paragraphs: list[list[str]] = [[]]
    for block in blocks:
        if block.kind == "text":
            paragraphs[-1].append(block.text)
        elif paragraphs[-1]:
            paragraphs.append([])
    return [" ".join(lines) for lines in paragraphs if lines]


def plain(text: str) -> str:
    """A line without emphasis, code marks and link targets."""
    text = re.sub(r"!?\[([^\[\]]*)\]\([^()\[\]]*\)", r"\1", text)
    text = re.sub(r"(?<![\w\\])(\*{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"\\([\\`*_{}\[\]()#+.!|<>-])", r"\1", text.replace("`", "")).strip()


def prose(blocks: Sequence[Block]) -> str:
    """The blocks as plain text: a line for each paragraph and item, code as it is."""
    lines: list[str] = []
    before = ""
    for block in blocks:
        if block.kind == "table":
            lines += [" | ".join(map(plain, row)) for row in block.rows]
        elif block.kind == "code":
            lines.append(block.text)
        elif block.kind == "item":
            lines.append(f"- {plain(block.text)}")
        elif block.kind == before == "text":
            lines[-1] += f" {plain(block.text)}"
        elif block.text:
            lines.append(plain(block.text))
        before = block.kind
    return "\n".join(lines).strip()
