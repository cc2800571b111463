"""What a person's advice asks for, where it can be taken in one way only."""

from __future__ import annotations

import re

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
# Whatever limits the advice, or speaks of a first step, makes it more than a re-run.
_LIMITED = re.compile(
    r"\b(?:unless|only (?:if|when|once|after)|except|before|first|make sure|ensure|but|not|never|"
    r"don't|until|nicht|nur|zuerst|vorher|kein|erst|sauf|seulement|avant|ne|solo|antes|no|não)\b",
    re.IGNORECASE,
)
_FORBIDS = re.compile(
    r"\b(?:do not|don't|never|must not|mustn't|should not|shouldn't|cannot be|not safe to|unsafe"
    r" to)"
    r" (?:simply |just |blindly |ever |be |automatically )*"
    r"(?:re-?run|re-?try|re-?trigger|re-?process|re-?start (?:it|the (?:task|job))|"
    r"clear(?:ed)?(?: (?:it|the (?:failed )?task)))"
    r"|\bno (?:re-?runs?|re-?tries|retry)(?: please)?[.!]"
    r"|\b(?:nicht|niemals|nie|kein(?:en)?) (?:einfach |automatisch |blind )*"
    r"(?:neu ?start\w*|erneut start\w*|wiederhol\w*|clearen|rerun\w*|retry\w*)"
    r"|\bne (?:jamais|pas) (?:relancer|réexécuter)"
    r"|\b(?:no|nunca|não) (?:reintentar|relanzar|volver a ejecutar|reexecutar|executar novamente)",
    re.IGNORECASE,
)


def structured(text: str) -> tuple[str, dict[str, str]] | None:
    """(action, params) where the text is a name of the catalogue, perhaps with its params as
    `name=value`, and nothing else."""
    found = _STRUCTURED.fullmatch(text.strip())
    if not found or found[1] not in ACTIONS:
        return None
    return found[1], dict(pair.split("=", 1) for pair in found[2].split())


def understood(advice: str, around: str) -> tuple[str, dict[str, str]] | None:
    """(action, params) where the advice is one plain sentence that asks for nothing but a re-run,
    now or after a while, and nothing in the text `around` it limits that. A suggestion."""
    said = _POLITE.sub("", " ".join(advice.lower().replace("’", "'").split())).rstrip(" .!")
    if _LIMITED.search(said) or forbids(around):
        return None
    if _NOW.fullmatch(said):
        return "retry", {}
    for pattern in _LATER:
        if found := pattern.fullmatch(said):
            amount, unit = (group for group in found.groups() if group)
            return "retry_later", {"delay": f"{amount}{'m' if unit[0] == 'm' else 'h'}"}
    return None


def forbids(text: str) -> bool:
    """Whether it says outright not to run the task again."""
    return bool(_FORBIDS.search(" ".join(text.replace("’", "'").split())))
