"""Published documents of one mapped task → one line with its indexes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
INDEXES_LENGTH = 24  # characters; a task may be mapped a thousand times


def folded(
    docs: Sequence[Document], alike: Callable[[Document], object] = lambda _doc: None
) -> list[list[Document]]:
    """The documents in order, those of one mapped task in one run together where the first of
    them stands; `alike` says what else they must share."""
    groups: dict[object, list[Document]] = {}
    for number, doc in enumerate(docs):
        mapped = (doc["map_index"] or 0) >= 0 and doc["map_index"] is not None
        task = (doc["dag_id"], doc["run_id"], doc["task_id"], alike(doc))
        groups.setdefault(task if mapped else number, []).append(doc)
    return list(groups.values())


def indexes(numbers: Sequence[int]) -> str:
    """Such as `1,4-7`, cut with an ellipsis where it gets long."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    if len(text) <= INDEXES_LENGTH:
        return text
    return text[: text.rindex(",", 0, INDEXES_LENGTH) + 1] + "…"


def name(group: Sequence[Document], total: int | None) -> str:
    """`dag.convert[1,4-7] 5 of 60`; `total` is how many instances the task has in the run."""
    first = group[0]
    told = indexes([doc["map_index"] for doc in group])
    count = f"{len(group)} of {total}" if total else f"×{len(group)}"
    return f"{first['dag_id']}.{first['task_id']}[{told}] {count}"
