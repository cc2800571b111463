"""`aiops backtest`: what the tool would have done with one's own incidents, and how well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import page, print_json, progress, thinking
from aiops_cli.errors import UsageError


def backtest(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option(help="Count only failures since: 30d. Default: all.")
    ] = None,
    risk: Annotated[
        float, typer.Option(help="The share of wrong acts that a bound is suggested for.")
    ] = 0.01,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Ask the model anew about every near match.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the curves.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay your own incidents in their order, each judged only by what was known before it: how
    many would have been acted on alone, how many rightly, and which bounds your record supports.
    Acts on nothing and asks no Airflow."""
    from aiops_cli import services
    from aiops_cli.backtest import measure, run
    from aiops_cli.config import typed_duration
    from knowledge import calibration

    if not 0.0 < risk <= 0.5:
        raise UsageError(f"--risk {risk} is not a share", "name one above 0, at most 0.5: 0.01")
    if calibration.needed(risk) > calibration.WINDOW:
        raise UsageError(
            f"--risk {risk} takes {calibration.needed(risk)} labelled outcomes, and the last "
            f"{calibration.WINDOW} count",
            "name a larger share: 0.002",
        )
    if html is not None and json:
        raise UsageError("--json and --html exclude each other", "take one of them")
    chosen = settings(ctx)
    if with_model and chosen.llm == "none":
        raise UsageError("no model is set to be asked", "set AIOPS_LLM, such as ollama:llama3.1")
    start = services.SystemClock().now() - typed_duration(since) if since else None
    # One bar at a time: a model that is asked says so itself.
    waiting = (lambda: thinking(chosen.llm.removeprefix("ollama:"))) if with_model else None
    with services.replaying(chosen, with_model, waiting) as (replay, known):
        if with_model:
            steps = run(replay, known, ctx.obj.instance, lambda _done, _of: None, anew=True)
        else:
            with progress("replaying") as told:
                steps = run(replay, known, ctx.obj.instance, told)
        document = measure(
            [one for one in steps if start is None or one.failed_at >= start],
            known.labelled(),
            embedder=known.embedder.name,
            floor=known.embedder.bound,
            risk=risk,
        )
    if json:
        print_json(document)
    elif html is not None:
        from aiops_cli.backtest_page import as_html
        from aiops_cli.page import save

        save(html, as_html(document))
    else:
        from aiops_cli.backtest_text import as_text

        page(as_text(document))
