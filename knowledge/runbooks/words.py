"""What teams call the parts of a runbook, in the languages they write: words → the part's role.

Only whole headings and labels are looked up, never words inside a sentence: a heading that is
not here is no part, and its text is kept as it is.
"""

from __future__ import annotations

import re
from typing import Literal, TypeVar

# `context` tells what happened, and may quote the error; `caution` what to mind before the fix,
# which may then not be taken for a plain one; `aside` is about something else than
# this failure or its fix (checks, prevention, contacts), and its samples are no symptoms.
Role = Literal["symptoms", "cause", "action", "why", "context", "caution", "aside"]
Meta = Literal["owner", "edited", "dags", "tags", "id", "safe_to_retry"]

_ROLES: dict[Role, str] = {
    "symptoms": """
        symptom, symptoms, symptom description, error, errors, error message, error messages,
        error text, error log, error logs, error output, example error, example errors,
        sample error, sample log, sample logs, log, logs, log sample, log samples, log excerpt,
        log output, log snippet, log lines, stack trace, stacktrace, traceback, exception,
        what you see, what you will see, what you'll see, what it looks like, how it looks,
        what we see, what we saw, how to recognise, how to recognise it, how to recognize,
        how to recognize it, you see, observed behaviour, observed behavior, signs, indicators,
        problem, the problem, issue, failure, failure message, when you see this, if you see,
        symptome, symptom beschreibung, fehler, fehlermeldung, fehlermeldungen, fehlerbild,
        fehlertext, problem beschreibung, problembeschreibung, logauszug, log auszug,
        woran erkennt man es, woran man es erkennt, so sieht es aus,
        symptôme, symptômes, erreur, erreurs, message d'erreur, messages d'erreur, problème,
        extrait du journal, extrait de log,
        síntoma, síntomas, sintomas, mensaje de error, mensajes de error, problema,
        sintoma, erro, mensagem de erro, mensagens de erro, errore, messaggio di errore, sintomi,
        symptomen, fout, foutmelding, foutmeldingen, probleem,
        objawy, błąd, komunikat błędu""",
    "cause": """
        cause, causes, root cause, root causes, root cause analysis, rca, probable cause,
        probable causes, likely cause, likely causes, possible cause, possible causes,
        common cause, common causes, known cause, reason, reasons, trigger, why it happens,
        why does it happen, why this happens, why it breaks, what causes it, underlying cause,
        meaning, what it means,
        ursache, ursachen, grund, gründe, mögliche ursache, mögliche ursachen, auslöser, warum,
        wieso, hintergrund der störung,
        cause racine, causes possibles, cause probable, origine, raison,
        causa, causas, causa raíz, causa raiz, causa probable, causa probabile, causas posibles,
        motivo, oorzaak, oorzaken, przyczyna, przyczyny""",
    "action": """
        action, actions, fix, fixes, the fix, how to fix, how to fix it, how to fix this,
        quick fix, resolution, resolutions, resolution steps, resolve, how to resolve,
        how to resolve it, steps to resolve, solution, solutions, remedy, remediation,
        remediation steps, mitigation, mitigations, mitigation steps, mitigate, workaround,
        workarounds, recovery, recovery steps, recovery procedure, response, response steps,
        what to do, what do i do, what you do, what to do now, steps, procedure, repair,
        corrective action, recommended action, immediate action, immediate actions, first aid,
        how we fixed it, how it was fixed, what fixed it, what we did, instructions, treatment,
        runbook steps, playbook, checklist, to resolve, do this,
        lösung, lösungen, lösungsweg, behebung, fehlerbehebung, maßnahme, maßnahmen,
        sofortmaßnahme, sofortmaßnahmen, vorgehen, vorgehensweise, was tun, was ist zu tun,
        abhilfe, wiederherstellung, schritte,
        résolution, correction, remède, que faire, marche à suivre, procédure, contournement,
        solución, soluciones, resolución, qué hacer, pasos, procedimiento, remediación,
        solução, resolução, o que fazer, passos, correção, soluzione, risoluzione, rimedio,
        cosa fare, oplossing, wat te doen, stappen, rozwiązanie, co robić, naprawa""",
    "why": "why, explanation, why this works, why this action, erklärung, begründung, explication",
    "context": """
        summary, overview, description, details, background, context, what happened, what happens,
        about, abstract, tl dr, tldr, incident summary, detection, impact, timeline, introduction,
        zusammenfassung, überblick, beschreibung, hintergrund, auswirkung, auswirkungen, ablauf,
        was passiert, was ist passiert, zeitverlauf,
        résumé, contexte, description du problème, impact métier, chronologie,
        resumen, descripción, contexto, impacto, resumo, descrição, riepilogo, descrizione,
        samenvatting, beschrijving, opis""",
    "caution": """
        caution, warning, warnings, danger, attention, important, important note, careful,
        be careful, beware, limitations, exceptions, before you start, before you rerun,
        before you begin, preconditions, prerequisites, requirements, access, safety,
        achtung, vorsicht, warnung, wichtig, bitte beachten, zu beachten, voraussetzungen,
        voraussetzung, avertissement, prérequis, mise en garde, à noter,
        atención, advertencia, cuidado, precaución, importante, requisitos, requisitos previos,
        atenção, aviso, pré requisitos, attenzione, avvertenza, avvertenze, prerequisiti,
        let op, waarschuwing, belangrijk, vereisten, uwaga, ostrzeżenie, wymagania""",
    "aside": """
        diagnosis, diagnostics, diagnose, diagnostic steps, how to diagnose, triage,
        investigation, investigate, how to investigate, troubleshooting steps, checks, check,
        how to check, debugging, confirm, how to confirm, verification, verify, validation,
        how to verify, how to verify it, prevention, prevent, how to prevent, how to prevent it,
        long term fix, permanent fix,
        follow up, follow ups, followup, followups, action items, next steps, lessons learned,
        lessons, what went well, what went wrong, what went badly, what could be better,
        what to improve,
        escalation, escalate, who to call, contacts, contact list, on call, communication,
        references, reference, links, related, related tickets, related pages, related links,
        see also, notes,
        note, further reading, resources, severity, priority,
        dashboards, monitoring, alert, alerts, alert name, change log, changelog,
        history, history of this page, revision history, version history, table of contents,
        contents, rollback, glossary, useful commands, commands, appendix, participants,
        status, tags and labels, attachments,
        diagnostik, prüfung, überprüfung, kontrolle, analyse, vorbeugung, eskalation, kontakt,
        kontakte, ansprechpartner, verweise, verwandte themen, siehe auch, hinweise, hinweis,
        nachbereitung, historie, änderungshistorie,
        vérification, prévention, diagnostic, escalade, références, liens, voir aussi,
        verificación, prevención, diagnóstico, escalado, referencias, enlaces, notas,
        verificação, prevenção, verifica, prevenzione, diagnosi, controle, preventie, zie ook,
        diagnoza, zapobieganie""",
}
_META: dict[Meta, str] = {
    "owner": """
        owner, owners, owned by, owning team, service owner, page owner, maintainer, maintainers,
        maintained by, team, responsible, responsible team, contact, point of contact,
        verantwortlich, verantwortliche, zuständig, zuständigkeit,
        responsable, équipe, propriétaire, equipo, responsável, equipe, responsabile, eigenaar,
        właściciel""",
    "edited": """
        edited, updated, last updated, last update, last edited, last edited time, last modified,
        last reviewed, last review, reviewed, last verified, last tested, stand, aktualisiert,
        zuletzt aktualisiert, zuletzt geprüft, letzte änderung, geprüft am,
        dernière mise à jour, mis à jour le, última actualización, actualizado,
        última atualização, ultimo aggiornamento, laatst bijgewerkt, ostatnia aktualizacja""",
    "dags": "dag, dags, dag id, dag ids, affected dag, affected dags, betroffene dags, dag name",
    "tags": "tag, tags, labels",
    "id": "id, runbook id, entry id",
    "safe_to_retry": """
        safe to retry, safe to rerun, safe to re run, rerun safe, retry safe, idempotent,
        can be rerun, kann wiederholt werden, wiederholbar""",
}


_Name = TypeVar("_Name")


def _by_word(table: dict[_Name, str]) -> dict[str, _Name]:
    return {" ".join(w.split()): name for name, words in table.items() for w in words.split(",")}


_ROLE_OF = _by_word(_ROLES)
_META_OF = _by_word(_META)

_MARKUP = re.compile(r"[*_`~#]+|\[([^\[\]]*)\]\([^()\[\]]*\)|\{[^{}]*\}|\([^()]*\)")
# What a heading or label says beside its words; a link, an anchor, a number, "(s)" say nothing.
_REMARK = re.compile(r"(?<!\])\((?!(?:e?s|\d+)\))[^()]*\)|\{(?!#)[^{}]*\}|~~|[🚫⛔❌🛑]")
_NUMBERED = re.compile(r"^(?:step |schritt )?(?:\d+|[ivx]+(?=[.)]))(?:\.\d+)*[.):]?\s+")
_AND = re.compile(r"\s*(?:/|&|\+|,|\band\b|\bund\b|\bet\b|\boder\b|\bor\b|\by\b)\s*")
_BEFORE_TEXT = re.compile(r"\s*[:：]\s*|\s+[-–—]+\s+")
# Where one heading names several parts, the one that decides what its text may be taken for.
_FIRST: tuple[Role, ...] = ("action", "symptoms", "cause", "caution", "why", "context", "aside")


def plain_words(text: str) -> str:
    """A heading or label in lower case, without markup, numbering, emoji and end marks."""
    text = _MARKUP.sub(lambda found: found[1] or " ", text.replace("’", "'"))
    text = "".join(char if char.isalnum() or char in " '.:/&+,?)-" else " " for char in text)
    text = _NUMBERED.sub("", " ".join(text.lower().split()))
    return " ".join(text.replace("-", " ").strip(" .:?,-/&+)").split())


def role_of(text: str) -> Role | None:
    """The part that a whole heading names; None for any other text."""
    words = re.sub(r" (?:\d+|n|#)$", "", plain_words(text))
    found = [_ROLE_OF.get(part) for part in (words, *_AND.split(words))]
    named = found[:1] if found[0] else found[1:]
    if None in named:
        return None
    return next(role for role in _FIRST if role in named)


def meta_of(text: str) -> Meta | None:
    """The fact about a page or entry that a label names; None for any other text."""
    return _META_OF.get(plain_words(text))


def has_remark(text: str) -> bool:
    """Whether a heading or label says more than the name of its part: "Fix (do not use)"."""
    return bool(_REMARK.search(text))


def split_label(text: str) -> tuple[str, str] | None:
    """A line "Cause: the disk" as (label, rest), where its label names a part or a fact."""
    found = _BEFORE_TEXT.search(text[:80])
    if found is None:
        return None
    label, rest = text[: found.start()], text[found.end() :]
    bold = re.match(r"\s*(\*\*|__|\*|_)", label)
    if bold and rest.startswith(bold[1]):  # **Cause:** the disk
        rest = rest[len(bold[1]) :]
    if not (":" in found[0] or "：" in found[0] or bold):
        return None  # "Logs - see below" is prose
    known = role_of(label) or meta_of(label)
    return (label, rest.strip()) if known else None
