"""Secrets and terminal control out of text, before it is stored, embedded, sent or shown.

`clean` first, then `redact`: an escape sequence in the middle of a secret would hide it.
Both never raise, are idempotent, and take time linear in the text: no pattern here starts
with an unbounded repetition, and none starts again inside a run that it has failed on.

What is kept on purpose, because it decides a diagnosis: the user and host of a URL, the name
of a setting, empty values (`password=None`), and prose ("token: expired").
"""

from __future__ import annotations

import re
from functools import cache, partial

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC, DCS …
    r"|\x1b[ -/]*[0-~]"  # two-character escapes
)
# C0 and C1 but tab and newline.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# What nobody sees, and what can therefore stand in the middle of a name: Unicode's category Cf
# and its property Default_Ignorable_Code_Point (joiners, bidi marks, fillers, tags, …).
_UNSEEN = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SEPARATORS = re.compile("[\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Text that cannot drive a terminal: no ANSI or OSC escapes, no control characters but tab
    and newline, no invisible characters or bidi overrides; lone surrogates become U+FFFD.

    The number of "\\n" stays the same, and `str.splitlines` splits at nothing else.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub("", _ESCAPES.sub("", _UNSEEN.sub("", text)))
    return _SURROGATES.sub("\ufffd", _SEPARATORS.sub(" ", text))


def redact(text: str) -> str:
    """Text with every secret replaced by `<redacted:kind>`; as many lines as before."""
    keys = KeyBlocks()
    return "\n".join(redact_line(keys.line(line)) for line in text.split("\n"))


class KeyBlocks:
    """Private keys span lines: give it the lines of a text in order, and each line of a PEM
    block comes back replaced. Cheap where there is none, so that all of a long log can pass.

    A block whose end never comes (the log was cut) ends at the first line that cannot belong
    to a key. A key on one line, with its newlines escaped, is replaced as well.
    """

    def __init__(self) -> None:
        self._inside = False

    def line(self, text: str) -> str:
        """One line, without its newline."""
        if not self._inside and "-----BEGIN" not in text:
            return text
        ends = list(_PEM_END.finditer(text))
        done, position = "", 0
        if self._inside:
            if ends:
                done, position = _mark("private_key"), ends[0].end()
            elif _PEM_BODY.search(text):
                return _mark("private_key") if text.strip() else text
            self._inside = False
        for begin in _PEM_BEGIN.finditer(text):
            if begin.start() < position:
                continue
            done += text[position : begin.start()] + _mark("private_key")
            self._inside = not ends or begin.end() > ends[-1].start()
            body = (_PEM_RUN.match if self._inside else _PEM_END.search)(text, begin.end())
            position = body.end() if body else len(text)
        return done + text[position:]


def redact_line(text: str) -> str:
    """`redact` for one line that has been through `KeyBlocks.line`."""
    for kind, pattern in (*_library_tokens(), *_TOKENS):
        text = pattern.sub(_mark(kind), text)
    if _mark("aws_key") in text or "secret_access_key" in text:
        text = _AWS_SECRET.sub(_mark("aws_secret"), text)
    if len(text) >= 64 and _LONE_KEY_LINE.fullmatch(text):
        return _mark("private_key")
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    for kind, pattern in _AFTER:
        text = pattern.sub(partial(_after, kind), text)
    return _PAIR.sub(_pair, text)


def _mark(kind: str) -> str:
    return f"<redacted:{kind}>"


def _after(kind: str, found: re.Match[str]) -> str:
    return found[1] + _hide(kind, found[2])


def _hide(kind: str, value: str) -> str:
    return value if _NO_SECRET.fullmatch(value) else _mark(kind)


@cache
def _library_tokens() -> tuple[tuple[str, re.Pattern[str]], ...]:
    # Imported on first use: 0.25 s, most of it `requests`, which the library verifies with.
    from detect_secrets.plugins import (
        aws,
        discord,
        github_token,
        gitlab_token,
        mailchimp,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    # Left out: the entropy detectors (they take uuids and hashes for secrets), those that
    # match more than the secret, and those that take quadratic time on a hostile line.
    detectors = (
        # Its second pattern swallows the setting's name; the pairs below do it better.
        ("aws_key", aws.AWSKeyDetector.denylist[:1]),
        ("discord_token", discord.DiscordBotTokenDetector.denylist),
        ("github_token", github_token.GitHubTokenDetector.denylist),
        ("gitlab_token", gitlab_token.GitLabTokenDetector.denylist),
        ("mailchimp_key", mailchimp.MailchimpDetector.denylist),
        ("pypi_token", pypi_token.PypiTokenDetector.denylist),
        ("sendgrid_key", sendgrid.SendGridDetector.denylist),
        ("slack_token", slack.SlackDetector.denylist),
        ("square_token", square_oauth.SquareOAuthDetector.denylist),
        ("stripe_key", stripe.StripeDetector.denylist),
        ("telegram_token", telegram_token.TelegramBotTokenDetector.denylist),
        ("twilio_key", twilio.TwilioKeyDetector.denylist),
    )
    return tuple((kind, pattern) for kind, patterns in detectors for pattern in patterns)


# Token shapes that the library lacks or knows only in part; each has a fixed prefix.
_TOKENS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("jwt", r"eyJ(?<![\w-]eyJ)(?:[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*){0,3}|hbGciOi[\w-]*)"),
        ("github_token", r"github_pat_\w{20,}|gh[pousr]_[A-Za-z0-9]{20,}"),
        ("gitlab_token", r"(?<![A-Za-z0-9])gl[a-z]{2,8}-[\w-]{20,}"),
        ("slack_token", r"xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}"),
        ("google_key", r"AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"),
        ("azure_secret", r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}"),
        ("npm_token", r"npm_[A-Za-z0-9]{36}"),
        ("pypi_token", r"pypi-AgE[\w-]{20,}"),
        ("stripe_key", r"[rs]k_(?:live|test)_[0-9a-zA-Z]{10,}|whsec_[\w+/=]{20,}"),
        ("api_key", r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]{0,60}\d)[\w-]{20,}"),
        ("huggingface_token", r"\bhf_[A-Za-z0-9]{30,}"),
        ("databricks_token", r"\bdapi[0-9a-f]{32}(?:-\d+)?"),
        ("vault_token", r"\bhv[sbr]\.[\w-]{20,}"),
        ("docker_token", r"dckr_[a-z]{3}_[\w-]{20,}"),
        ("digitalocean_token", r"do[opr]_v1_[0-9a-f]{40,}"),
        ("aws_session_token", r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[\w+/=]{40,}"),
        ("service_token", r"\b(?:glsa_|dbt[cu]_|ATATT3|shpat_|pscale_tkn_)[\w=-]{20,}"),
        ("fernet_token", r"gAAAAA[\w-]{60,}={0,2}"),
        ("fernet_key", r"(?<![\w+/=-])[A-Za-z0-9_-]{43}=(?![\w+/=-])"),
    )
)
_NOT_HEX_40 = r"(?=[A-Za-z0-9+/]{0,39}[G-Zg-z+/])"
_AWS_SECRET = re.compile(rf"(?<![\w+/=]){_NOT_HEX_40}[A-Za-z0-9+/]{{40}}(?![\w+/=])")

_PEM_BEGIN = re.compile(r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# What may stand in a block: base64 alone on its line, or at the end of one with a log prefix.
_PEM_BODY = re.compile(
    r"""^[\s"'|,+>-]*(?:(?:\\+[nrt]|[A-Za-z0-9+/=])*|(?:Proc-Type|DEK-Info|Version|Comment):.*)"""
    r"""[\s"',|\\]*$|\s[A-Za-z0-9+/]{40,}={0,2}[\s"',]*$"""
)
_PEM_RUN = re.compile(r"(?:\\+[nrt]|\s|[A-Za-z0-9+/=]{16,})*[A-Za-z0-9+/=]*")
# A whole line of a key whose beginning is not here: PEM lines have 64 or, OpenSSH, 70 characters.
_LONE_KEY_LINE = re.compile(
    r"""[\s"']*(?=[A-Za-z0-9+/]*[G-Zg-z])(?=[A-Za-z0-9+/]*\d)[A-Za-z0-9+/]{64,70}[\s"',]*"""
)

# Names of settings that hold a secret. What stands before is not matched, so that the search
# cannot start again inside one long name: "db_password", "AWS_SECRET_ACCESS_KEY" end like this.
_NAME = (
    r"(?:pass(?:w(?:or)?d|phrase|code)|(?<=[_.-])pass|(?<=[\"'])pass(?=[\"'])|pwd|token|secret"
    r"|(?:api|app|auth|access|account|private|secret|shared|encryption|fernet|signing|storage"
    r"|master|subscription|license|hmac)[_.-]?key|rediscli_auth)"
    r"(?:[_-]?(?:value|text|content|base|b64|base64|\d{1,2})"
    r"|\.[\w-]{1,40}\.\w{1,8}\.core\.windows\.net)?(?![\w-])"  # Spark's settings for Azure
)
# Values that tell nothing, and values that were hidden before.
_NO_SECRET = re.compile(
    r"(?i:<redacted:\w+>[)\]}.,:;]*|none|null|nil|true|false|yes|no|\*+|\"\"|''|)", re.ASCII
)
# The first word of what stands after "token: " in a sentence, or of a type in source text.
_PROSE = (
    r"an?|access|and|any|are|at|authentication|authorization|bad|bool|bytes|can|cannot|check"
    r"|connection|could|denied|disabled|does|empty|error|expired|expecting|failed|failure|for"
    r"|forbidden|found|from|has|in|incorrect|input|int|invalid|is|it|locked|malformed|mismatch"
    r"|missing|must|no|not|object|of|on|only|optional|or|permission|please|provided|refused"
    r"|rejected|required|revoked|secretstr|should|signature|str|string|the|this|timeout|to|type"
    r"|unable|unauthorized|unexpected|unknown|unsupported|user|value|was|when|will|with|wrong"
    r"|your?"
)
_NO_PROSE = rf"(?!(?:{_PROSE})(?![\w-]))"
# Quotes as source, JSON and JSON within JSON have them; and the text behind one.
_QUOTE = r"[bru]{0,2}\\{0,4}[\"']"
_QUOTED = r"(?:(?<=\")(?:[^\"\\]|\\(?!\"))+|(?<=')(?:[^'\\]|\\(?!'))+)"
# Between a client's name and its flag, in one command; between a flag and its value.
_GAP = r"[\s\"'](?:[^|;&\n]|&(?!&)){0,200}?(?<=[\s\"'])"
_NEXT = r"(?:[\"'],\s?[\"']|\s{1,4})"
# Without one of these none of the patterns below can match: plain lines are three times cheaper.
_HINTS = (
    *("://", "pass", "pwd", "token", "secret", "key", "auth", "bearer", "basic", "cookie"),
    *("sig=", "signature=", "credential=", "identified", "-u", "--user", "mysql", "sqlcmd"),
    *("jdbc:oracle", "sqlplus", "sqlldr", "expdp", "impdp", "cred", "login", "hooks", "curl"),
    *("mongo", "redis-cli", "bcp", "beeline", "cqlsh", "ldap", "core.windows.net"),
)
_AFTER: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        # Up to the last "@" before the query: passwords hold "@", "/" and "?" more often than
        # paths hold "@". Not where a web address has its port and path: http://api:8080/me@x.
        (
            "password",
            r"((?:(?<!http)(?<!https)://|://(?![^\s:/?#@\"<>]{0,256}:\d{1,5}[/?#\"',\s)\]}]))"
            r"[^\s:/?#@\"<>]{0,256}:)"
            r"(?=[^\s\"@]{1,1024}@)((?:<redacted:\w+>|[^\s\"<>?]|\?(?![\w.%-]{1,64}=)){1,1024})(?=@)",
        ),
        # A token alone, where a user would stand.
        ("token", r"(://)(?=[\w.~-]{0,80}\d)([\w.~-]{32,256})(?=@)"),
        # Addresses that let everybody post who knows them.
        (
            "webhook",
            r"((?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks"
            r"|outlook\.office\.com/webhook|webhook\.office\.com/webhookb2"
            r"|events\.pagerduty\.com/integration)/)([^\s\"'<>?]+)",
        ),
        (
            "password",
            r"((?:jdbc:oracle:\w{1,10}:"
            r"|\b(?:sqlplus|sqlldr|expdp|impdp)(?:[\s\"',]{1,4}-\w{1,8}){0,6}[\s\"',]{1,4}(?:userid=)?)"
            r"[\w$#]{1,128}/)([^\s@\"']{1,256})(?=[\"']?\s{0,4}@)",
        ),
        (
            "authorization",
            r"(authorization[\"'\\]{0,4}\s{0,8}(?:=>|[:=]|,(?=\s?[bru]?\\{0,4}[\"']))\s{0,8}\[?"
            r"(?:[bru]?[\"'\\]{1,4})?(?:(?:basic|bearer|token|negotiate|ntlm|api-?key|key|geniekey"
            r"|ssws|splunk|bot)\s{1,8}[\"']?)?)"
            r"((?:digest|aws4-hmac-sha256)\s.*"
            r"|(?!(?:basic|bearer|digest|is|was|not|no|header|failed|missing|required|denied|error"
            r"|invalid|expired|has|the)\b|[bru]?[\"'])(?:(?<=[\"'])[^\"'\\]+|[^\s\"',;\\]+))",
        ),
        (
            "authorization",
            r"(\bbearer\s{1,8})(?=[A-Za-z._~+/-]{0,60}\d)([\w.~+/-]{8,}={0,2})(?![\w.~+/=\"'-])",
        ),
        (
            "authorization",
            r"(\bbasic\s{1,8})(?=[A-Za-z+/]{0,60}[\d=])([A-Za-z0-9+/]{8,}={0,2})(?![\w+/=\"'-])",
        ),
        (
            "authorization",
            r"(\bauth (?:plain|login|xoauth2) )(?=\S{0,60}[\d=])([A-Za-z0-9+/]{8,}={0,2})",
        ),
        # Two strings: auth=("bob", "x"), HTTPBasicAuth("bob", "x"), login("bob", "x"); and a
        # header or setting as a pair, whose second string could not be a third name.
        (
            "password",
            rf"((?:auth(?:\\{{0,4}}[\"']?\s{{0,4}}[:=]\s{{0,4}}[\[(]|\()|\blogin\()\s{{0,4}}"
            rf"(?!{_QUOTE}(?:basic|digest|bearer|oauth\w{{0,2}}|negotiate|ntlm|kerberos)\\{{0,4}}[\"'])"
            rf"{_QUOTE}[^\"'\\]{{0,128}}\\{{0,4}}[\"'],\s{{0,4}}{_QUOTE})({_QUOTED})"
            r"(?=\\{0,4}[\"']\s{0,4},?\s{0,4}[)\]])",
        ),
        (
            "secret",
            rf"([\[(]{_QUOTE}[\w.-]{{0,60}}?{_NAME}\\{{0,4}}[\"'],\s{{0,4}}{_QUOTE})"
            rf"(?=[^\"']{{0,256}}[^A-Za-z_.\s\"'])({_QUOTED})(?=\\{{0,4}}[\"'][)\]])",
        ),
        # The path of a file with credentials stays, and so does what source text assigns.
        (
            "credentials",
            rf"(cred(?:ential)?s?\\{{0,4}}[\"']?\s{{0,4}}[:=]\s{{0,4}}{_QUOTE})"
            rf"(?![/~{{\[]){_NO_PROSE}({_QUOTED})",
        ),
        (
            "credentials",
            r"(cred(?:ential)?s?(?:\s{0,4}=\s{0,4}|:\s{1,4}))(?![/~]|arn:|\w{1,10}://)"
            r"(?![\w.-]{1,60}[:=]\s)"  # the next setting's name
            r"(?=[^\s,;\"'()<>{}\[\]]{0,80}[\d:@!$%*#])(?=[^\s,;\"'()<>{}\[\]]{0,80}[A-Za-z])"
            r"(?![^\s,;\"'()<>{}\[\]]{0,80}[(<{\[])([^\s,;\"'()<>{}\[\]]+)",
        ),
        # A prompt's answer: a word that no sentence begins with, and either alone or no word.
        (
            "password",
            r"(\bpass(?:word|wd|phrase|code)\s{1,4}for\s"
            r"(?:[^\n:=\"']{0,80}(?:'[^'\n]{1,160}'|\"[^\"\n]{1,160}\"))?[^\n:=]{0,160}?"
            rf"(?::\s{{1,4}}|\s?=\s?(?=[\"']))[\"']?){_NO_PROSE}(?!\S*:\s|\{{[\w.]{{1,60}}[\[(}}])"
            r"(?=\S*[^A-Za-z\s.,;!]|\S*\s{0,256}$)([^\s\"']+)",
        ),
        # A blank as separator, for the settings of clouds alone.
        (
            "secret",
            r"((?:secret_access_key|session_token|(?:(?:account|secret)\.key|client\.secret)"
            r"(?:\.[\w.-]{1,120})?)\s{1,8})(?=[\w/+=~.-]{0,200}[\d+])(?=[\w/+=~.-]{0,200}[A-Za-z])"
            r"(?!/)([\w/+=~.-]{6,})",
        ),
        ("cookie", r"(cookie\\*[\"']\s{0,8}:\s{0,8}\\*\")([^\"]*)"),
        ("cookie", r"(cookie\\*[\"']\s{0,8}:\s{0,8}\\*')([^']*)"),
        ("cookie", r"(cookie\s{0,8}:\s{0,8})(?=[\w.-]{1,200}=)(.+)"),
        ("cookie", r"(<cookie [\w.-]{1,200}=)([^\s>]+)"),
        # Signed URLs: Azure SAS, AWS, Google.
        ("signature", r"([?&;](?:x-(?:amz|goog)-)?(?:sig|signature|credential)=)([^&\s\"'<>]+)"),
        # SQL has no "=": IDENTIFIED BY 'x', PASSWORD 'x', SECRET_ACCESS_KEY 'x'.
        ("password", r"(\bidentified\s{1,8}by\s{1,8})('[^']*'|\"[^\"]*\"|[^\s;'\"<]+)"),
        ("password", r"(\b(?:password|secret_access_key|session_token)\s{1,8}')([^']+)(?=')"),
        ("password", rf"(<(?!redacted:)[\w.:-]{{0,60}}?{_NAME}>)([^<>\s][^<>]*)(?=</)"),
        # Command lines; also one printed as a list of arguments.
        (
            "password",
            rf"((?<![\w-])--(?:[a-z0-9][\w-]{{0,40}}?)??{_NAME}[\"']?,?\s{{1,4}})"
            r"(?!-|(?:is|was|not|option|flag|argument|or|and|to|for)\b)"
            r"((?:'[^']*'|\"[^\"]*\"|[^\s\"',])+)",
        ),
        (
            "password",
            r"((?<![^\s\"'])(?:-u|--(?:proxy-)?user)(?:[ =]|[\"'],\s?)[\"']?(?!\w{1,10}://|jdbc:)"
            r"[^\s:\"']{1,128}:)(?!\d+(?![^\s\"']))([^\s\"']+)",
        ),
        # The same letter is a port or a database for other clients.
        (
            "password",
            rf"((?-i:\b(?:mysql\w{{0,8}}{_GAP}-p|(?:sqlcmd|bcp){_GAP}-P{_NEXT}?|sshpass{_GAP}-p{_NEXT}?"
            rf"|(?:mongo\w{{0,8}}|beeline|cqlsh|(?:docker|podman|helm|az)\slogin){_GAP}-p{_NEXT}"
            rf"|redis-cli{_GAP}-a{_NEXT}|ldap\w{{1,8}}{_GAP}-w{_NEXT}"
            rf"|curl{_GAP}-\w{{0,6}}u{_NEXT}?[\"']?[\w.@+-]{{1,128}}:)))"
            r"(?![\"'](?:[,\]\s]|$)|//|[|;&-])((?:'[^']*'|\"[^\"]*\"|[^\s\"',])+)",
        ),
        # YAML: a pass phrase has blanks and ends with the line.
        (
            "password",
            r"(^\s*(?:-\s)?[\w.-]{0,60}?pass(?:word|wd|phrase):\s{1,40})"
            r"((?!str\b|bytes\b|optional\b)[^\s\"'{\[|>&*<]\S*\s[^:=]*)$",
        ),
    )
)
_PAIR = re.compile(
    rf"(?P<name>{_NAME})"
    r"(?P<sep>\\*[\"']?\]?(?:\s?:\s?(?:str|bytes)(?:\s\|\sNone)?(?=\s?=))?"
    r"\s{0,8}(?:={1,3}>?|:=?|%3D)\s{0,8}(?:[\[(](?=[\"']))?[bfru]{0,2}(?=\S))"
    r"(?:(?P<quote>\\*[\"'])(?P<quoted>.*?)(?<!\\)(?P=quote)"
    r"|(?P<braced>\{[^{}\"':]+\})"
    r"|(?P<bare>(?![{\[])(?:<redacted:\w+>|[^\s,;&\"'<]|<(?!/)"
    r"|[,;&](?!\s|$|[\"']?[\w.-]{1,40}[\"']?\s?[=:])|[\"'](?![\s,;:&)\]}\"']|$))+))",
    re.IGNORECASE,
)


def _pair(found: re.Match[str]) -> str:
    """One `name=value`, its value hidden unless it is no secret."""
    name, sep = found["name"], found["sep"]
    kind = re.sub(r"[_-]?\d*$", "", name.lower()).replace("-", "_")
    if found["quote"] is not None:
        quote = found["quote"]
        return f"{name}{sep}{quote}{_hide(kind, found['quoted'])}{quote}"
    if found["braced"] is not None:
        return f"{name}{sep}{_mark(kind)}"
    bare = found["bare"]
    value = bare.rstrip(")]},.:;") or bare
    if _is_prose(found, value):
        return found[0]
    return f"{name}{sep}{_hide(kind, value)}{bare[len(value) :]}"


def _is_prose(found: re.Match[str], value: str) -> bool:
    name, before = found["name"], found.string[max(0, found.start() - 60) : found.start()]
    if name in ("pwd", "PWD"):  # the shell's working directory, not ODBC's password
        return value.startswith("/") and not before.endswith(";")
    if before.lower().endswith(("unexpected ", "expected ", "extraneous ")):  # a parser's token
        return True
    if value.startswith("arn:"):  # names a secret, is none
        return True
    if ":" not in found["sep"] or not re.fullmatch(r"[A-Za-z']+", value):
        return False
    # "InvalidToken: Signature …" is an exception, not a setting.
    exception = name[0].isupper() and re.search(r"(?<!\w)[A-Z]\w*[a-z]$", before) is not None
    return exception or re.fullmatch(_PROSE, value, re.IGNORECASE) is not None
