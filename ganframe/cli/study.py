"""study."""

from __future__ import annotations

import click

from ganframe.cli.common import Command, blocking, options, setting


@click.command(cls=Command)
@click.argument("study", metavar="STUDY")
@click.option("--out", metavar="DIR", help="The study's folder. By default studies/<name>.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Runs at once on this machine.")
@click.option("--retry", is_flag=True, help="Resume the runs that have failed.")
@click.option("--status", is_flag=True, help="Say how far the study is, and do nothing.")
@click.option("--worker", is_flag=True, hidden=True)
@options(setting, blocking)
def study(
    study: str, out: str | None, jobs: int, retry: bool, status: bool, worker: bool, overrides: tuple[str, ...]
) -> None:
    """Make the runs of STUDY: a recipe over axes and seeds. The same command continues it, also in several places."""
    from ganframe.cli.process import keep_freed_memory, leave_launch
    from ganframe.studies import study as studies
    from ganframe.studies.plan import cell_title
    from ganframe.studies.progress import summary

    leave_launch()
    keep_freed_memory()
    if worker:
        studies.work_for_parent(study, out or "")
        return
    if status:
        found = studies.status(study, out, overrides)
        for outcome in found.outcomes:
            click.echo(f"{outcome.folder}  {outcome.status:<9} {cell_title(outcome.cell)}, seed {outcome.seed}")
    else:
        found = studies.study(study, out, jobs=jobs, overrides=overrides, retry=retry)
    for outcome in found.outcomes:
        if outcome.status == "failed":
            click.echo(f"failed: {cell_title(outcome.cell)}, seed {outcome.seed}: {outcome.message}", err=True)
    click.echo(f"{'so far' if status else 'done'}: {found.folder}/ has {summary(found.outcomes)}")
