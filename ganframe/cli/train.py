"""run, check."""

from __future__ import annotations

import os

import click

from ganframe.cli.common import Command, blocking, options, say, setting


@click.command(cls=Command)
@click.argument("recipe", required=False, metavar="RECIPE")
@click.option("--out", metavar="DIR", help="The run's folder. By default runs/<recipe>/<number>.")
@click.option("--resume", metavar="DIR", help="Resume the run in this folder; no RECIPE then.")
@options(setting, blocking)
def run(recipe: str | None, out: str | None, resume: str | None, overrides: tuple[str, ...]) -> None:
    """Train as RECIPE says."""
    if (recipe is None) == (resume is None):
        hint = (
            f"; if {recipe} is part of a value, quote it: --set 'name=a text with spaces'" if resume and recipe else ""
        )
        raise click.UsageError(f"give either a RECIPE or --resume DIR{hint}")
    if resume is not None and out is not None:
        raise click.UsageError("--out and --resume exclude each other: a resumed run stays in its folder")
    import ganframe
    from ganframe.cli.process import keep_freed_memory, use_threads_of
    from ganframe.storage.run_folder import RunFolder
    from ganframe.training.accelerator import leave_process_group

    keep_freed_memory()
    try:
        if resume is not None:
            use_threads_of(resume)
            done = ganframe.resume(resume, overrides)
        else:
            assert recipe is not None
            done = ganframe.run(ganframe.load_recipe(recipe, overrides), out)
    finally:
        leave_process_group()
    if os.environ.get("RANK", "0") == "0":
        folder = RunFolder(done.folder)
        picture = folder.samples(done.log[-1]["step"])
        found = [str(p.relative_to(done.folder)) for p in (folder.generator, picture, folder.log) if p.exists()]
        click.echo(f"done: {done.folder}/ has {', '.join(found)}")


@click.command(cls=Command)
@click.argument("recipe", metavar="RECIPE")
@options(setting, blocking)
def check(recipe: str, overrides: tuple[str, ...]) -> None:
    """Validate RECIPE, build everything and take a few real steps. Writes nothing."""
    import ganframe
    from ganframe.cli.process import keep_freed_memory
    from ganframe.data.classes import shown_classes
    from ganframe.errors import counted
    from ganframe.training import check as checks
    from ganframe.training.moving_average import decay_at

    keep_freed_memory()
    loaded = ganframe.load_recipe(recipe, overrides)
    result = checks.check(loaded)
    given = f", {counted(result.spec.classes, 'class', 'classes')}" if result.spec.classes else ""
    given = f", conditions of shape {result.spec.condition}" if result.spec.condition else given
    click.echo(f"{recipe}: sound")
    say(f"data           shape {result.spec.shape}{given}")
    if result.spec.class_names:
        say(f"classes        {shown_classes(result.spec)}")
    if result.heeding is not None:
        what = "labels" if result.spec.condition is None else "conditions"
        say(f"{what:<14} {result.heeding.described()}")
    say(f"generator      {counted(result.generator_parameters, 'parameter')}")
    say(f"discriminator  {counted(result.discriminator_parameters, 'parameter')}")
    if loaded.train.ema is not None and result.full_decay_at is not None and result.full_decay_at > loaded.train.steps:
        decay = decay_at(loaded.train.ema, loaded.train.steps)
        say(f"moving average decay {decay} is reached at step {result.full_decay_at:,}, after the last step")
    say(f"time           {result.seconds_per_step:.3g} s a step, about {_duration(result.seconds)} in all")
    if result.one_thread is not None and result.one_thread < 0.9:
        say(
            f"threads        one takes {result.one_thread:.2f} of the time of {result.threads}, as these networks are "
            "small: put OMP_NUM_THREADS=1 before the command"
        )
    memory = "unknown on this system" if result.memory is None else f"{result.memory / 2**30:.2f} GiB at most so far"
    say(f"memory         {memory}, on {result.device}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
