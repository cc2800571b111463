"""A backtest's document → text for a terminal. Never prints.

The first lines say all that somebody tired wants to know; the tables below are for choosing bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aiops_cli.screen import Trimmed, local, plain
from knowledge.calibration import NEEDED, RATE

Document = Mapping[str, Any]

COLUMNS = ("right", "wasted", "harmful", "unclear", "told", "mistold", "asked")
BLOCKS = 8  # of the learning curve are shown: the first ones and the last
EXPLAINED = (
    "right: acted alone, and it would have ended the failure · wasted: it would not have · "
    "harmful: somebody said that it did harm · unclear: nobody recorded the end · told: a known "
    "`none`, told without a question · mistold: it was not `none` · asked: a person was asked"
)


def as_text(doc: Document) -> RenderableType:
    """What the tool would have done with one's own incidents, and which bounds they support."""
    if not doc["incidents"]:
        return plain("No incidents are stored yet: a watch or a diagnosis stores them.")
    parts: list[RenderableType] = [plain(title(doc), "bold")]
    parts += [plain(f"  {line}") for line in headlines(doc)]
    parts += [Text(), *(plain(line) for line in _curve(doc)), plain(f"  {EXPLAINED}", "dim")]
    parts += [Text("\nMODEL", "bold"), *(plain(f"  {line}") for line in told_model(doc))]
    parts += [Text("\nPRECISION AGAINST COVERAGE of the best match", "bold")]
    parts += [plain(line) for line in _precision(doc)]
    parts += [Text("\nBOUND ON NEAR MATCHES", "bold")]
    parts += [plain(f"  {line}") for line in told_bound(doc["bound"])]
    if doc["bound"]["settings"]:
        parts += [plain("  To paste into the settings:")]
        parts += [plain(f"    {line}") for line in doc["bound"]["settings"]]
    return Trimmed(Group(*parts))


def title(doc: Document) -> str:
    return (
        f"{many(doc['incidents'], 'incident')}, {local(doc['since'])} – {local(doc['until'])}, "
        "each judged by what was known before it"
    )


def headlines(doc: Document) -> Iterator[str]:
    found, all_ = doc["outcomes"], doc["incidents"]
    alone = sum(found[one] for one in ("right", "wasted", "harmful", "unclear"))
    yield (
        f"{share(alone, all_)} acted alone, had there been a grant: {found['right']} right, "
        f"{found['wasted']} wasted, {found['harmful']} harmful, {found['unclear']} unclear"
    )
    told = found["told"] + found["mistold"]
    yield f"{share(told, all_)} told without a question: {found['mistold']} of them wrongly"
    yield f"{share(found['asked'], all_)} asked a person"
    if doc["known"] < all_:
        yield (
            f"Of {many(doc['known'], 'incident')} it is known what was right: somebody decided, "
            "and the end was seen."
        )


def curve(doc: Document) -> list[tuple[str, Mapping[str, int]]]:
    """The learning curve, and the rows beside it, each with its counts."""
    blocks = [(f"{one['from']} to {one['to']}", one) for one in doc["curve"]]
    rows = [*blocks, ("all", doc["outcomes"])]
    return rows + [(f"  {name}", counts) for name, counts in doc["baselines"].items()]


def _curve(doc: Document) -> Iterator[str]:
    rows = curve(doc)
    blocks = len(doc["curve"])
    left_out = blocks - BLOCKS if blocks > BLOCKS else 0
    yield f"{'incidents':<20}" + "".join(f"{name:>8}" for name in COLUMNS)
    for number, (name, counts) in enumerate(rows):
        if left_out and number == BLOCKS - 1:
            yield f"{'…':<20}"
        if left_out and BLOCKS - 1 <= number < blocks - 1:
            continue
        yield f"{name:<20}" + "".join(f"{counts[one]:>8}" for one in COLUMNS)


def _precision(doc: Document) -> Iterator[str]:
    rows = doc["precision"]
    if not rows[0]["reached"]:
        yield "  too little is known: no match of an incident whose right answer is recorded"
        return
    yield f"  {'bound':>6}{'reached':>16}{'right':>16}"
    for one in rows:
        if one["bound"] and not one["reached"]:
            continue
        reached, right = share(one["reached"], one["known"]), share(one["right"], one["reached"])
        yield f"  {one['bound']:>6.2f}{reached:>16}{right:>16}"


def told_bound(bound: Document) -> Iterator[str]:
    """The suggestion in sentences."""
    outcomes, needed = bound["outcomes"], bound["needed"]
    if bound["value"] is None:
        yield (
            f"{many(outcomes, 'labelled incident')} without an exact match: no bound can be "
            f"suggested before {needed} (at {bound['risk']:.1%} risk)."
        )
        yield _in_use(bound)
        return
    anew = " judged anew just now" if bound["from"] == "replay" else ""
    yield (
        f"{bound['embedder']}: {bound['value']:.3f} from {many(outcomes, 'outcome')}{anew}, so "
        f"that at most {bound['risk']:.1%} of such incidents are acted on wrongly."
    )
    if bound["value"] >= 1.0:
        yield "No near match is safe enough at this risk: only exact ones are acted on."
    if not bound["settings"]:
        yield f"That is what holds already ({bound['floor']:.2f} at least): nothing to change."
    yield _in_use(bound)


def _in_use(bound: Document) -> str:
    """What the watch goes by, which may be another bound than the one that is suggested."""
    used, own = bound["in_use"], bound["in_use"]["from"] == "record"
    if own and bound["from"] == "record" and bound["risk"] == RATE:
        return "`aiops watch` uses this bound by itself; the settings may be stricter."
    whose = (
        f"from the same record at {RATE:.0%}".replace("%", " %")
        if own
        else f"{bound['embedder']}'s own, until {NEEDED} of the incidents that it judged itself "
        f"are labelled ({used['outcomes']} are)"
    )
    return f"`aiops watch` uses {used['value']:.3f}, {whose}; the settings may be stricter."


def told_model(doc: Document) -> Iterator[str]:
    """What the model's opinions were worth, in sentences and a small table."""
    model = doc["model"]
    if model is None:
        yield "No opinion of a model is stored. Ask one anew: aiops backtest --with-model"
        return
    yield (
        f"{', '.join(model['models'])}: asked {many(model['asked'], 'time')}, heard "
        f"{model['heard']}; its action was right in {share(model['right'], model['held'])} of "
        f"{model['held']} whose truth is known"
    )
    if model["heard"]:
        yield f"quotes that are not in the log: {model['made_up_quotes']}"
    for why, count in sorted(model["unheard"].items(), key=lambda pair: -pair[1]):
        yield f"not heard {count}x: {why}"
    stopped = model["stopped"]
    saved = stopped.get("wasted", 0) + stopped.get("harmful", 0)
    yield (
        f"it changed the outcome of {many(sum(stopped.values()), 'incident')}: {saved} wrong "
        f"stopped, {stopped.get('right', 0)} right stopped, {stopped.get('unclear', 0)} unclear"
    )
    for one in model["reliability"]:
        if one["said"]:
            right = share(one["right"], one["said"])
            yield f"confidence {one['from']:.2f} to {one['to']:.2f}: right {right} of {one['said']}"


def share(part: int, whole: int) -> str:
    """`51 (24 %)`."""
    return f"{part} ({part / whole:.0%})".replace("%", " %") if whole else f"{part}"


def many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def shares(counts: Mapping[str, int], names: Sequence[str]) -> float:
    """What part of the incidents these outcomes are, 0.0 to 1.0."""
    everything = sum(counts[one] for one in COLUMNS)
    return sum(counts[one] for one in names) / everything if everything else 0.0
