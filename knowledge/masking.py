"""What changes from run to run becomes a named placeholder; what tells failures apart stays.

Kept: words, quoted names, HTTP verbs and the words of a URL's path, and codes (HTTP status,
errno, exit code, signal, SQLSTATE, vendor codes). Masked: identifiers, times, addresses, paths,
sizes and counts. One pass of one alternation, so the time is linear in the text, and masking
what is masked already changes nothing.
"""

from __future__ import annotations

import re

_VERBS = "GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS"
_OBJECT_SCHEMES = frozenset(
    (
        "s3",
        "s3a",
        "s3n",
        "gs",
        "gcs",
        "hdfs",
        "abfs",
        "abfss",
        "wasb",
        "wasbs",
        "adl",
        "dbfs",
        "file",
    )
)
_TLDS = (
    "com|net|org|io|internal|invalid|localdomain|corp|lan|svc|gov|edu|eu|de|uk|fr|nl|br|jp|ru"
    "|example"
)
# These end names of Python modules too (google.cloud), so a host needs more to be told.
_DOUBTFUL_TLDS = "local|dev|co|ai|in|cn"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_CLOCK = r"\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?"
_ZONE = r"(?:\s?(?:Z|UTC|GMT)\b|\s?[+-]\d\d:?\d\d\b)"
# SQLSTATE classes of the SQL standard and of PostgreSQL, ODBC and Oracle.
_SQLSTATE = r"(?:0[0-9A-Z]|2[0-9A-Z]|3[489BDF]|4[0-24]|5[3-8]|72|F0|HV|HY|HZ|IM|P0|XX)[0-9A-Z]{3}"

# What follows one of these words is a code that tells one failure from another.
_CODE_WORDS = (
    r"https?(?:/\d(?:\.\d)?)?|httperror|response|errno|error|exit|signal|rc|returncode"
    r"|(?:status|exit|return|error|response|result|reason|vendor|sql|native)?[ _]?"
    r"(?:code|status|state)"
)

# What redaction left of a secret: in an address it is a part of that like any other.
_REDACTED = r"<redacted:\w{1,40}>"

_PATTERN = re.compile(
    "|".join(
        (
            # Already masked: left alone, with the path words that a URL keeps.
            r"(?P<masked><(?:url|object)>(?:/(?:[A-Za-z][\w.~-]*|<id>))*|<[a-z]{1,8}>)",
            r"(?P<instance><TaskInstance: [^>\n]{0,300}>)",
            r"(?P<run>\b(?:scheduled|manual|backfill|asset_triggered|dataset_triggered)__[\w:.+-]+)",
            rf"(?P<verb>\b(?:{_VERBS}) |\burl:? ['\"]?)"
            rf"(?P<path_of_url>/(?:[^\s'\"()<>,]|{_REDACTED})*)",
            rf"(?P<url>\b[A-Za-z][A-Za-z0-9+.-]{{1,15}}://(?:[^\s'\"<>\\]|{_REDACTED})*)",
            r"(?P<arn>\barn:aws[\w-]*:[^\s'\",)]+)",
            r"(?P<email>\b[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+)",
            r"(?P<uuid>\b[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\b)",
            r"(?P<ip>\b(?:\d{1,3}\.){3}\d{1,3}\b(?:[:/]\d{1,5}\b)?"
            r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])"
            r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){1,6}:(?:[0-9a-fA-F]{1,4}:){0,5}[0-9a-fA-F]{1,4}(?![\w:])"
            r"|\bip-\d{1,3}(?:-\d{1,3}){3}(?:\.[a-z0-9.-]{1,80})?)",
            rf"(?P<ts>\b\d{{4}}[-/]\d\d[-/]\d\d(?:(?:T|, | )(?:{_CLOCK}){_ZONE}?)?(?![\w-])"
            rf"|\b\d{{8}}T\d{{4,6}}(?:\.\d+)?Z?\b"
            rf"|\b\d\d[/.]\d\d[/.]\d\d(?:\d\d)?(?: {_CLOCK})?\b"
            rf"|\b(?:(?:{_DAYS}),? )?"
            rf"(?:\d{{1,2}} (?:{_MONTHS})|(?:{_MONTHS})[ ]{{1,2}}\d{{1,2}}),? "
            rf"(?:\d{{4}} )?{_CLOCK}{_ZONE}?(?: \d{{4}}\b)?"
            rf"|\b\d\d:\d\d:\d\d(?:[.,]\d{{1,9}})?{_ZONE}?)",
            # Codes. The word and its number stay as they are.
            rf"(?P<code>(?i:\b(?:{_CODE_WORDS})(?:[ _](?:error|code|status|is|was|of|with|value))?"
            rf"[\s:=#'\"(\[]{{1,4}}-?\d{{1,6}}\b(?![.]\d))(?: \((?:{_SQLSTATE})\))?"
            rf"|(?i:\bsql ?state)[\s:=('\"\[]{{1,4}}[0-9A-Z]{{5}}\b"
            rf"|\b\d{{4,6}} \({_SQLSTATE}\)"  # Snowflake, MySQL's client
            rf"|(?<=['\"\[]){_SQLSTATE}(?=['\"\]])"  # ODBC
            r"|\(-?\d{1,5}(?=, ?b?['\"])"  # DB-API errors print (code, 'text')
            r"|\([345]\d\d\)"
            r"|(?<![\w.:/-])[45]\d\d(?=:? ?[A-Z][A-Za-z])"  # 404 Not Found, 503:Service …
            r"|\b[A-Z]{2,5}-\d{3,6}\b"  # ORA-01017, TNS-12541, DPY-6005
            r"|\b[A-Z]{1,4}\d{2,6}[A-Z]?\b)",  # E11000, SQL0204N
            # Hosts and ports.
            r"(?P<port>(?i:\bport[ =:]{1,3})\d{1,5}\b)",
            r"(?P<named_host>(?i:\bhost(?:name)?)(?P<sep>[=:] ?|['\"]: ?| name | )"
            r"(?P<quote>['\"])[\w.-]{1,253}(?P=quote))",
            rf"(?P<host>\b(?:[A-Za-z0-9_-]{{1,63}}\.){{1,8}}(?:{_TLDS})\b(?![.]?[\w(])(?::\d{{2,5}}\b)?"
            rf"|\b(?:[A-Za-z0-9_-]{{1,63}}\.){{2,8}}(?:{_DOUBTFUL_TLDS})\b(?![.]?[\w(])(?::\d{{2,5}}\b)?"
            r"|\blocalhost(?::\d{2,5}\b)?"
            r"|(?<![\w./-])[a-z][a-z0-9]*(?:[.-][a-z0-9]+){0,6}:\d{4,5}\b(?!:))",
            # File paths: absolute, home, Windows, or relative with a file's ending.
            r"(?P<path>(?<![\w/>.~-])(?:~|\.{1,2})?/[\w.@%+~=-]+(?:/[\w.@%+~=*-]*)*"
            r"|\b[A-Za-z]:\\[\w.\\ -]+"
            r"|(?<![\w/>.-])[\w.-]+(?:/[\w.=%-]+){1,20}\.[A-Za-z]\w{0,7}\b)",
            r"(?P<hex>\b0[xX][0-9a-fA-F]{2,}\b|\bsha256:[0-9a-fA-F]{8,}\b"
            r"|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,128}\b"
            r"|\b(?=[A-F]*\d)(?=\d*[A-F])[0-9A-F]{8,128}\b)",
            # Names a machine made: a pod's, a cluster's, a job's.
            r"(?P<pod>(?i:\b(?:pods?|job|node|container|cluster)) ['\"]?)"
            r"(?P<made>(?![0-9a-f]{8}-[0-9a-f]{4}-)(?:"
            r"[a-z0-9]+(?:[-.][a-z0-9]+){0,12}-[a-z0-9]{0,40}\d[a-z0-9]{0,40}"
            r"|[a-z0-9]+(?:-[a-z0-9]+){0,12}-[a-z0-9]{5}))\b(?=['\"]? |['\"]?$|['\"]?:)",
            r"(?P<id>\b(?=[A-Z-]*\d)[A-Z0-9-]{12,64}\b"
            r"|\b[a-z0-9]+(?:-[a-z0-9]+)+-(?=[a-z]*\d)[a-z0-9]{5,10}\b)",
            r"(?P<inner>(?<=[A-Za-z_.-])\d{4,}|(?<=\bcalling o)\d+(?=\.)|(?<=_)\d{2,}\b)",
            r"(?P<mixed>\b\d+[a-z]+\d\w*(?:-\w+)*)",
            r"(?P<n>(?<![\w.-])-?\d+(?:[.,:/-]\d+)*%?)",
        )
    )
)

_PLACEHOLDERS = {"instance": "<ti>", "inner": "<n>", "mixed": "<id>"}
_WORD_SEGMENT = re.compile(r"v\d{1,2}(?:\.\d{1,2})?|[A-Za-z][A-Za-z_.~-]{0,30}\d?")
_MAX_SEGMENTS = 8


def _path_words(path: str) -> str:
    """The words of a URL's path; what is not a plain word becomes <id>, the query is dropped."""
    plain = path.split("?", 1)[0].split("#", 1)[0]
    segments = [part for part in plain.split("/") if part][:_MAX_SEGMENTS]
    return "".join(
        "/" + (part if _WORD_SEGMENT.fullmatch(part) else "<id>")
        for part in (segment.rstrip(".,:;)]}") for segment in segments)
        if part
    )


def _mask_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in _OBJECT_SCHEMES:
        return f"{scheme}:<object>"
    tail = url[len(url.rstrip(".,:;)]}")) :]
    _, slash, path = rest.partition("/")
    words = _path_words(slash + path)
    return ("<url>" if scheme in ("http", "https") else f"{scheme}:<url>") + words + tail


def _replace(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind in ("masked", "code"):
        return match.group()
    if kind == "path_of_url":
        path = match["path_of_url"]
        return f"{match['verb']}<url>{_path_words(path)}"
    if kind == "url":
        return _mask_url(match.group())
    if kind == "made":
        return f"{match['pod']}<id>"
    if kind == "port":
        return re.sub(r"\d+$", "<port>", match.group())
    if kind == "named_host":
        word = match.group().split(match["sep"], 1)[0]
        return f"{word}{match['sep']}{match['quote']}<host>{match['quote']}"
    return _PLACEHOLDERS.get(kind or "", f"<{kind}>")


def mask(text: str) -> str:
    """`text` with everything that changes from run to run replaced by placeholders such as
    <uuid>, <ts>, <run>, <ip>, <host>, <path>, <url>/words/of/path, <hex>, <id> and <n>.

    Idempotent; never raises; time linear in the length of the text (its lines should be cut to
    some thousand characters by the caller all the same).
    """
    return _PATTERN.sub(_replace, text)
