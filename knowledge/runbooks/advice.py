"""What a person's advice asks for, where it can be taken in one way only."""

from __future__ import annotations

import re
from enum import IntEnum

from knowledge.records import ACTIONS

_STRUCTURED = re.compile(r"`?([a-z_]+)`?((?:\s+\w+=\S+)*)\.?")

_WHERE = r"(?: (?:again|once|once more|in airflow|(?:in|from|via) the (?:airflow )?ui))*"
_TASK = r"(?:the )?(?:failed )?(?:airflow )?task(?: instance)?"
_AGAIN = (
    rf"(?:(?:re-?run|re-?try)(?: (?:it|{_TASK}))?{_WHERE}"
    rf"|(?:clear|restart) {_TASK}{_WHERE}"
    r"|(?:den )?(?:fehlgeschlagenen )?task (?:erneut|neu|nochmals?) starten"
    r"|(?:den )?(?:fehlgeschlagenen )?task wiederholen"
    r"|relancer la tâche(?: en échec)?"
    r"|(?:reintentar|volver a ejecutar|relanzar) la tarea"
    r"|(?:reexecutar|executar novamente) a tarefa)"
)
_DELAY = r"(?:about |some |ca\. )?(\d{1,3}) ?(min|minutes?|minuten|m|h|hours?|stunden?)"
_POLITE = re.compile(r"^(?:[-•] |\d+[.)] )?(?:(?:please|just|simply|bitte|einfach),? )*")
_NOW = re.compile(_AGAIN)
_LATER = (
    re.compile(rf"(?:wait|after) {_DELAY}(?:,? (?:and )?then|,| and) {_AGAIN}"),
    re.compile(rf"{_AGAIN} (?:after|in) {_DELAY}"),
    re.compile(rf"{_DELAY} warten,? (?:und )?dann {_AGAIN}"),
)

# How people name the task at hand; "clear" and "restart" speak of anything else too.
_OBJECT = r"(?:it|this|that|(?:(?:the|this|these) )?(?:failed )?(?:task|job|run)s?)(?!['’\w])"
_ALONE = r"(?=\W*$|[.!,;])"
# A person's ways of saying no, and of saying "run it again" behind it, in the languages of `words`.
_NO = (
    r"(?:do not|don't|never|(?:must|should|shall|may) not|mustn't|shouldn't|not(?: safe)? to|"
    r"unsafe to|(?:cannot|can't|can not)(?= be)|under no circumstances|avoid|refrain from|"
    r"nicht|niemals|nie|kein(?:e|en)?|keinesfalls|auf keinen fall|ne|jamais|nunca|jamás|não|non|"
    r"mai|niet|nooit|geen|nigdy)"
)
_BETWEEN = (
    r"(?:(?:ever|be|just|simply|blindly|automatically|please|may|must|should|the|failed|task|job|"
    r"einfach|automatisch|blind|den|zu|pas|jamais|faut|doit|surtout|la|le|a|o|il|mai|de|nie|wolno|"
    r"należy) )*"
)
_ROMANCE = (
    r"reintent\w*|relan[zc]\w*|reejecut\w*|(?:volver|vuelvas?|vuelve) a (?:ejecutar|lanzar)|"
    r"reexecut\w*|réexécut\w*|rejou\w*|rilanci\w*|riesegu\w*|"
    r"e[xj]ecut\w+ (?:novamente|nuevamente|de n(?:ov|uev)o|ou?tra vez)|"
    r"esegu\w+ (?:di nuovo|nuovamente)|exécut\w+ (?:à|de) nouveau"
)
_REPEATED = (
    r"(?:re-?run(?:ning)?|re-?tr(?:y|ied|ying)|re-?trigger\w*|re-?process\w*|re-?launch\w*|"
    rf"(?:re-?start|clear|repeat)(?:ed|ing)?(?: {_OBJECT}|{_ALONE})|"
    rf"(?:run|start|trigger|execut)\w*(?: {_OBJECT})? (?:again|once more|twice|a second time)|"
    r"(?:neu|erneut|noch ?mals?|noch ?einmal|wieder) ?"
    r"(?:starten|ausführen|laufen lassen|anstoßen|(?:gestartet|ausgeführt) werden)|"
    r"wiederhol(?:en|t werden)|clearen|gecleart werden|"
    rf"{_ROMANCE}|opnieuw (?:starten|uitvoeren|draaien)|herstarten|"
    r"ponawia\w*|ponowi\w*|uruchamia\w* ponownie|ponownie uruch\w*)"
)
_RUNNING_AGAIN = (
    rf"(?:re-?runs?|re-?running|retr(?:y|ies|ying)|(?:clearing|restarting|repeating) {_OBJECT}|"
    r"neustarts?|wiederholung(?:en)?|relance|reintentos?|riesecuzione|herstart)"
    r"(?: (?:it|this|the|task|job|here|is|are|ist|sind|est|es|está|é|strictly|streng))*"
)
_FORBIDDEN = (
    r"(?:forbidden|prohibited|not allowed|not safe|unsafe|dangerous|harmful|verboten|untersagt|"
    r"gefährlich|interdite?s?|prohibid[oa]s?|proibid[oa]s?|vietat[oaie]|verboden|zabronion\w+)"
)
_FORBIDS = re.compile(
    rf"\b{_NO} {_BETWEEN}{_REPEATED}\b"
    rf"|\bno {_BETWEEN}(?:{_ROMANCE})\b"
    rf"|\b(?:no|avoid) (?:re-?runs?|re-?tries|re-?try)(?: please)?{_ALONE}"
    rf"|\b{_RUNNING_AGAIN} {_FORBIDDEN}\b|\b{_FORBIDDEN} (?:to )?{_REPEATED}\b"
    rf"|[🚫⛔]\ufe0f? ?{_REPEATED}\b"
    r"|\b(?:not|isn't|nicht|pas|no es|não é|non è|niet) (?:idempot\w+|safe to repeat|rerun-safe)",
    re.IGNORECASE,
)
# A sentence that speaks of running again and holds a word of the second kind may limit the advice.
_AGAIN_AT_ALL = re.compile(
    r"\bre-?(?:r[au]n|tr[yi]|start|trigger|process|peat|launch|do\b|submit)|\bclear|"
    r"\b(?:again|twice)\b|idempot|neu ?(?:ge)?start|erneut|noch ?mal|noch einmal|wiederhol|"
    r"relan[zc]|réexéc|rejou|reint|reejec|reexec|novamente|vuelv|volver|rilanc|riesegu|opnieuw|"
    r"herstart|herha|ponow|ponaw|de n(?:ov|uev)o\b|\bou?tra vez|nuevamente|nuov|à nouveau|"
    r"\bonly (?:\w+ ){0,2}once\b|\b(?:at most|exactly) once\b|\bonce (?:a|per|every) |"
    r"\bnur (?:\w+ )?einmal\b|\bseule fois|\bsola vez",
    re.IGNORECASE,
)
_LIMITS = re.compile(
    r"\b(?:unless|only|except|before|first|make sure|ensure|but|not|\w+n't|dont|cannot|never|no|"
    r"avoid|refrain|twice|a second time|double|duplicat\w*|worse|harmful|requires?|approval|"
    r"forbidden|prohibited|until|los(?:es?|ing)|data loss|overwrit\w+|corrupts?|destroys?|"
    r"disabled|(?:turned|switched) off|on purpose|deliberately|intentionally|at most|exactly|"
    r"verliert|überschreib\w*|seule|sola|nicht|nie|nur|zuerst|vorher|kein\w*|"
    r"erst|doppelt|verboten|sauf|seulement|avant|ne|jamais|deux fois|interdit\w*|solo|antes|nunca|"
    r"jamás|dos veces|não|duas vezes|proibid\w*|prohibid\w*|non|mai|prima|due volte|niet|nooit|"
    r"geen|eerst|dubbel|nigdy|tylko|dopiero|dwa razy)\b"
    r"|[🚫⛔❌🛑]",
    re.IGNORECASE,
)
# The answer to a question belongs to it: "May it run again? No."
_SENTENCE_END = re.compile(r"[.!;]\s|(?<!\?)\n")


def structured(text: str) -> tuple[str, dict[str, str]] | None:
    """(action, params) where the text is a name of the catalogue, perhaps with its params as
    `name=value`, and nothing else."""
    found = _STRUCTURED.fullmatch(text.strip())
    if not found or found[1] not in ACTIONS:
        return None
    return found[1], dict(pair.split("=", 1) for pair in found[2].split())


class Against(IntEnum):
    """What a text says against running the task again; of several texts the most counts."""

    NOTHING = 0
    PERHAPS = 1  # a sentence that may limit it
    OUTRIGHT = 2


def against(text: str) -> Against:
    # As a whole, for sentences may be wrapped, and by line, for a line may be a sentence.
    if any(_FORBIDS.search(_flat(one)) for one in (text, *text.split("\n"))):
        return Against.OUTRIGHT
    return Against.PERHAPS if _limited(text) else Against.NOTHING


def understood(advice: str, around: Against) -> tuple[str, dict[str, str]] | None:
    """(action, params) where the advice is one plain sentence that asks for nothing but a re-run,
    now or after a while, and nothing that the text `around` it says limits that. A suggestion."""
    said = _POLITE.sub("", _flat(advice).lower()).rstrip(" .!")
    delayed = next((found for one in _LATER if (found := one.fullmatch(said))), None)
    struck_out = "~~" in advice
    if around or struck_out or not (delayed or _NOW.fullmatch(said)):
        return None
    if delayed is None:
        return "retry", {}
    amount, unit = (group for group in delayed.groups() if group)
    return "retry_later", {"delay": f"{amount}{'m' if unit[0] == 'm' else 'h'}"}


def _limited(text: str) -> bool:
    """Whether a sentence of it may limit running again. In doubt it does: a person reads it."""
    sentences = _SENTENCE_END.split(text.replace("’", "'"))
    return any(_AGAIN_AT_ALL.search(each) and _LIMITS.search(each) for each in sentences)


def _flat(text: str) -> str:
    """In one line and without emphasis, for "do **not** rerun" is no less."""
    return " ".join(re.sub(r"[*_~`]+", " ", text.replace("’", "'")).split())
