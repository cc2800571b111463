"""What the keys of `aiops triage` do to one incident or to all that wait of a group.

What a person types is kept in `Item.typed` until it is stored, so that it is offered again when
something comes between, and told to who leaves before. What was done is kept as put_back tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aiops_cli.actions import CATALOGUE, checked, ready
from aiops_cli.commands import drafts, put_back, typed
from aiops_cli.commands.keys import Ended, Interrupted, ask_line, ask_yes
from aiops_cli.commands.output import console, page, progress
from aiops_cli.commands.put_back import Deeds
from aiops_cli.errors import AiopsError, UsageError
from knowledge.errors import DoorClosed, KnowledgeError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aiops_cli.decide import Proposal
    from aiops_cli.examine import Desk
    from aiops_cli.incidents import Plan
    from knowledge.records import Case

T = TypeVar("T")

AT_ONCE = 100  # of a group are approved with one yes: so many plans can still be looked through
NOTHING = "-"  # typed for "leave it empty" where Enter means what is shown


@dataclass
class Item:
    """One incident, or those of a group, with what was typed about it and is not stored yet."""

    ids: list[str]
    typed: dict[str, str] = field(default_factory=dict)

    def ask(self, name: str, question: str, default: str = "") -> str:
        """A line; what was typed before is the default. NOTHING gives ""."""
        try:
            answer = ask_line(question, self.typed.get(name, default))
        except (Interrupted, Ended) as stopped:
            if stopped.typed:
                self.typed[name] = stopped.typed
            raise
        self.typed.pop(name, None)
        if answer != default:
            self.typed[name] = answer
        return "" if answer == NOTHING else answer

    def read(self, name: str, question: str, default: str, as_: Callable[[str], T]) -> T:
        """As `ask`, and what `as_` makes of the line. What it refuses is told, and the same asked
        again: what is typed next would be taken for keys."""
        while True:
            try:
                return as_(self.ask(name, question, default))
            except UsageError as error:
                self.stored(name)  # not offered again
                console(stderr=True).print(f"{worded(error)}; Ctrl-C leads back")

    def need(self, name: str, question: str, default: str = "") -> str:
        """As `ask`, for what cannot be left empty. An Enter too many, struck with the key before,
        must not lead back to the keys: what is typed next would be taken for them."""
        answer = self.ask(name, question, default)
        return answer or self.ask(name, f"Enter again leads back; {question}")

    def stored(self, *names: str) -> None:
        """What was typed under these names is kept elsewhere now."""
        for name in names:
            self.typed.pop(name, None)

    def one_by_one(self, ids: Iterable[str]) -> list[Item]:
        """Of a group, these by themselves; what was typed for all is offered for each."""
        return [Item([id_], dict(self.typed)) for id_ in ids]

    def put_aside(self) -> None:
        """What was typed and is not stored is offered again the next time, and told."""
        drafts.keep(dict.fromkeys(self.ids, self.typed))
        self.tell_typed()

    def done_with(self) -> None:
        drafts.keep({id_: {} for id_ in self.ids})

    def tell_typed(self) -> None:
        """To be copied from the screen."""
        from knowledge.redact import clean

        for name, text in self.typed.items():
            told = f"typed for {self.ids[0]} and not stored: {name}: {clean(text)}"
            console(stderr=True).print(told, soft_wrap=True)


def approve(desk: Desk, _item: Item, cases: list[Case], deeds: Deeds) -> bool:
    """Do what is proposed, for AT_ONCE of them; False where the person thought better of it."""
    return _act(desk, _at_once(cases), deeds, None, {}, None)


def _at_once(cases: list[Case]) -> list[Case]:
    if len(cases) > AT_ONCE:
        told = f"the newest {AT_ONCE} of {len(cases)}; the others are asked for after them"
        console(stderr=True).print(told)
    return cases[:AT_ONCE]


def edit(desk: Desk, item: Item, cases: list[Case], deeds: Deeds) -> bool:
    """Do something else, or the same for another cause, for AT_ONCE of them; what is shown to be
    edited is the first one's."""
    cases = _at_once(cases)
    known = cases[0].judgement.document["diagnosis"] if cases[0].judgement else {}
    action = _ask_action(item, "action", known.get("action") or "retry")
    same = action == known.get("action")
    params = _ask_params(item, action, known["params"] if same else {}, ready)
    cause = item.ask("cause", "cause, for next time", known.get("cause") or "")
    return _act(desk, cases, deeds, action, params, cause)


def _ask_action(item: Item, question: str, default: str) -> str:
    """One of the catalogue."""
    return item.read("action", question, default, lambda name: checked(name, {}).name)


def _ask_params(
    item: Item,
    action: str,
    known: Mapping[str, Any],
    check: Callable[[str, Mapping[str, Any]], object],
) -> dict[str, Any]:
    """The params of an action that takes any, as K=V, K=V; `check` raises UsageError."""
    names = CATALOGUE[action].params
    if not names:
        return {}

    def read(line: str) -> dict[str, Any]:
        found = typed.of_line(line, names)
        check(action, found)
        return found

    return item.read("params", f"{', '.join(names)} as K=V", typed.as_line(known), read)


def _act(
    desk: Desk,
    cases: list[Case],
    deeds: Deeds,
    action: str | None,
    params: Mapping[str, Any],
    cause: str | None,
) -> bool:
    """Show every plan, ask once, carry them out. What is refused of several is told, and the
    others are done."""
    from rich.console import Group  # as `console`
    from rich.text import Text

    from aiops_cli import decide, respond
    from aiops_cli.pace import ahead
    from aiops_cli.published import plan_document
    from aiops_cli.render_plan import plan_text

    def planned(one: tuple[Case, Proposal]) -> Plan | None:
        case, proposed = one
        if proposed.action == "none":
            return None
        return respond.preview(desk, case.incident, proposed.action, proposed.params)

    out = console(stderr=True)
    plans = []
    first_of: dict[str, str] = {}
    shown: list[RenderableType] = []
    with _telling(cases) as refusal_of:
        proposals = []
        for case in cases:
            with refusal_of(case):
                proposals.append((case, decide.proposal(case, action, params, cause)))
        with progress("looking at what it would do") as tick:
            for (case, proposed), looked in ahead(proposals, planned, desk.settings.concurrency):
                with refusal_of(case):
                    plan = looked.result()
                    if plan is not None:
                        plan = decide.with_shared(plan, proposed, case.incident.id, first_of)
                        warning = decide.warning(case)
                        shown += [Text(warning, "bold")] if warning else []
                        shown.append(plan_text(plan_document(plan)))
                    plans.append((case, proposed, plan))
                tick(len(plans), len(proposals))
    if shown:
        page(Group(*shown), stderr=True)
    fixing = "nothing is run again: a person fixes it. Right?"
    question = "do this?" if any(plan for _, _, plan in plans) else fixing
    if not plans:
        return False
    if not ask_yes(question):
        if sum(decide.no_to_own_yes(desk, case) for case, _, _ in plans):  # each of them
            out.print("your yes is withdrawn")
        return False
    deed, halves = put_back.Deed("", []), 0  # of those that a second person has to approve too
    with _telling(cases) as refusal_of:
        for case, proposed, plan in plans:
            with refusal_of(case):
                learned = put_back.Learned(desk)
                done = decide.approve(desk, case, proposed, plan, None)
                out.print(typed.begun(done))
                if done.status in ("pending", "needs_human"):
                    halves += 1
                    continue
                deed.ids.append(case.incident.id)
                deed.what = f"{proposed.action} of {_named(case)}"
                if plan is None:
                    deed.put_back += [*learned.put_back(), put_back.taken_back(desk, case)]
                elif proposed.action == "retry_later":
                    deed.put_back.append(put_back.called_off(desk, case, learned.put_back()))
                elif plan.changes and not plan.no_undo:
                    deed.put_back.append(put_back.changed_back(desk, case))
                else:
                    deed.put_back.append(None)
                put_back.note(deeds, deed)
    return bool(deed.ids or halves)


@contextmanager
def _telling(cases: list[Case]) -> Iterator[Callable[[Case], AbstractContextManager[None]]]:
    """Of several, what is refused of some is told at the end, the same once, and the others are
    done; of one, it is raised. So is what would be the same for all."""
    from aiops_cli import decide

    told: dict[str, list[Case]] = {}

    @contextmanager
    def refusal_of(case: Case) -> Iterator[None]:
        try:
            yield
        except (AiopsError, DoorClosed) as error:
            if len(cases) == 1 or decide.ends_all(error):
                raise
            told.setdefault(worded(error), []).append(case)

    try:
        yield refusal_of
    finally:
        for words, refused in told.items():
            console(stderr=True).print(f"{_names(refused)}: {words}")


def worded(error: AiopsError | KnowledgeError) -> str:
    """What went wrong and what to do, in one line."""
    return error.message + (f" ({error.hint})" if error.hint else "")


def reject(desk: Desk, item: Item, cases: list[Case], deeds: Deeds) -> bool:
    from aiops_cli import decide

    reason = item.need("reason", "why not?")
    if not reason:
        return False
    deed = put_back.Deed(f"the rejection of {_names(cases)}", [])
    with _telling(cases) as refusal_of:
        for case in cases:
            with refusal_of(case):
                decide.reject(
                    desk.knowledge, case, by=desk.settings.user, at=desk.clock.now(), reason=reason
                )
                deed.ids.append(case.incident.id)
                deed.put_back.append(put_back.taken_back(desk, case))
                put_back.note(deeds, deed)
    console(stderr=True).print("rejected")
    return True


def remember(desk: Desk, item: Item, cases: list[Case], deeds: Deeds) -> bool:
    """Store what this failure is, without acting on it."""
    from aiops_cli import decide

    if len(cases) > 1:
        # What is said of one need not be true of the others.
        raise UsageError("that is said of one failure at a time", "x walks the group one by one")
    (case,) = cases
    decide.recognisable(case)
    known = case.judgement.document["diagnosis"] if case.judgement else {}
    cause = item.need("cause", "remember it as (its cause)", known.get("cause") or "")
    if not cause:
        return False
    action = _ask_action(item, "what is right: none, retry, retry_later", "none")
    params = _ask_params(item, action, {}, checked)
    learned = put_back.Learned(desk)
    decide.remember(
        desk.knowledge, case, cause=cause, action=action, params=params, at=desk.clock.now()
    )
    what = f"what was remembered of {_named(case)}"
    deeds.append(put_back.Deed(what, [case.incident.id], learned.put_back()))
    item.stored("cause", "action", "params")
    console(stderr=True).print("remembered")
    return True


def hold(desk: Desk, item: Item, cases: list[Case], deeds: Deeds) -> bool:
    """Keep the tool's hands off the DAGs for a while."""
    from aiops_cli.commands.hold import made
    from aiops_cli.config import typed_duration

    dags = sorted({case.incident.dag_id for case in cases} - {""})
    if not dags:
        raise UsageError("a file that cannot be imported has no DAG to hold", "snooze it instead")
    length = item.read("hold", f"hold {', '.join(dags)} for", "30m", typed_duration)
    store, by, now = desk.knowledge.store, desk.settings.user, desk.clock.now
    deed = put_back.Deed(f"the hold on {', '.join(dags)}", [case.incident.id for case in cases])
    for dag in dags:
        one = made(store, desk.instance, dag, by, now(), now() + length, "")
        deed.put_back.append(put_back.released(desk, one.id))
        put_back.note(deeds, deed)
    item.stored("hold")
    console(stderr=True).print(f"held: {', '.join(dags)}")
    return True


def snooze(desk: Desk, item: Item, cases: list[Case], deeds: Deeds) -> bool:
    from aiops_cli.commands.remark import wake_time
    from aiops_cli.published import utc
    from aiops_cli.screen import local

    store, by, now = desk.knowledge.store, desk.settings.user, desk.clock.now
    question = "until (05:00), or for how long (2h)"
    wake = item.read("snooze", question, "1h", lambda text: wake_time(text, now()))
    deed = put_back.Deed(f"the snooze of {_names(cases)}", [])
    for case in cases:
        id_ = case.incident.id
        store.snooze(id_, wake, by, now())
        deed.ids.append(id_)
        deed.put_back.append(put_back.woken(desk, id_))
        put_back.note(deeds, deed)
    console(stderr=True).print(f"left until {local(utc(wake))}")
    return True


def _names(cases: list[Case]) -> str:
    return _named(cases[0]) + (f" and {len(cases) - 1} more" if len(cases) > 1 else "")


def _named(case: Case) -> str:
    from aiops_cli.published import incident_document
    from aiops_cli.render import task_name

    return task_name(incident_document(case))
