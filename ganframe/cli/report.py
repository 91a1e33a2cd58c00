"""report."""

from __future__ import annotations

import click

from ganframe.cli.common import Command, blocking, options, writing


@click.command(cls=Command)
@click.argument("folder", metavar="RUN|STUDY")
@click.option("--open", "opened", is_flag=True, help="Open the page in the browser.")
@options(blocking)
def report(folder: str, opened: bool) -> None:
    """Write report.html in the folder of a run or a study: one page that opens anywhere, offline.

    It has curves, samples by step, scores, the recipe, and what else the folder holds. That of a study has its table,
    and each of its runs gets a page too. A published model has a page of its samples, scores and recipe.
    """
    import webbrowser
    from pathlib import Path

    from ganframe.errors import RequestError, noted_if_slow
    from ganframe.report.page_of_run import write_run_page
    from ganframe.storage.run_folder import RunFolder, is_measurement
    from ganframe.studies.folder import STUDY
    from ganframe.studies.page import write_study_page
    from ganframe.studies.study import status

    path = Path(folder)
    if not path.is_dir():
        what = "is a file, not the folder of a run or a study" if path.exists() else "there is no such folder"
        raise RequestError(f"{folder}: {what}")
    if is_measurement(path):
        raise RequestError(f"{folder}: the folder of a measurement, which has no page; give that of a run or a study")
    with writing(path / "report.html"), noted_if_slow("writing pages"):
        is_study = (path / STUDY).is_file()
        page = write_study_page(status(path / STUDY, path)) if is_study else write_run_page(RunFolder(path))
    click.echo(page)
    if opened and not webbrowser.open(page.absolute().as_uri()):
        raise RequestError(f"{page}: no browser could be opened; open this file in one")
