"""study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ganframe.cli.common import Command, blocking, make_table, options, print_table, say, setting

if TYPE_CHECKING:
    from ganframe.studies.table import Table


@click.command(cls=Command)
@click.argument("study", metavar="STUDY")
@click.option("--out", metavar="DIR", help="The study's folder. By default studies/<name>.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Runs at once on this machine.")
@click.option("--retry", is_flag=True, help="Resume the runs that have failed.")
@click.option("--status", is_flag=True, help="Say how far the study is, and do nothing.")
@click.option("--best", is_flag=True, help="Add columns of the best seeds to the table.")
@click.option("--cluster", type=click.Choice(["slurm", "local"]), help="Submit the --jobs to a cluster, by submitit.")
@click.option(
    "--cluster-option",
    "cluster_options",
    multiple=True,
    metavar="K=V",
    help="As in partition=gpu or time=600 (minutes).",
)
@click.option("--worker", is_flag=True, hidden=True)
@options(setting, blocking)
def study(
    study: str,
    out: str | None,
    jobs: int,
    retry: bool,
    status: bool,
    best: bool,
    cluster: Any,
    cluster_options: tuple[str, ...],
    worker: bool,
    overrides: tuple[str, ...],
) -> None:
    """Make the runs of STUDY: a recipe over axes and seeds. The same command continues it, also in several places."""
    from ganframe.cli.process import keep_freed_memory, leave_launch
    from ganframe.studies import study as studies
    from ganframe.studies.plan import cell_title
    from ganframe.studies.report import write_report

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
        if cluster_options and cluster is None:
            raise click.UsageError("--cluster-option needs --cluster")
        found = studies.study(
            study,
            out,
            jobs=jobs,
            overrides=overrides,
            retry=retry,
            cluster=cluster,
            cluster_options=cluster_options,
        )
    for outcome in found.outcomes:
        if outcome.status == "failed":
            click.echo(f"failed: {cell_title(outcome.cell)}, seed {outcome.seed}: {outcome.message}", err=True)
    table = found.table()
    _show(table, best)
    if not status:
        write_report(table, found.folder, found.study.name, best)
    click.echo(f"{'so far' if status else 'done'}: {found.folder}/ has {found.summary}")


def _show(table: Table, best: bool) -> None:
    """Prints what study.md has, but for why runs failed and the protocols."""
    from ganframe.studies import texts

    for line in [] if table.search is None else texts.search_lines(table.search):
        say(line)
    for heading, cells in [
        ("", texts.main_texts(table, best)),
        (texts.baseline_title(table), texts.difference_texts(table)),
    ]:
        if cells is not None and cells[1]:
            click.echo(f"{heading}\n" if heading else "")
            printed = make_table(*cells[0])
            for row in cells[1]:
                printed.add_row(*row)
            print_table(printed)
            click.echo()
    for line in texts.notes(table):
        if not line.startswith("  "):
            say(line)
