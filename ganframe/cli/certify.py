"""certify."""

from __future__ import annotations

import click

from ganframe.cli.common import Command, blocking, make_table, options, print_table, say, setting


@click.command(cls=Command)
@click.argument("run", required=False, metavar="[RUN]")
@click.option("--data", metavar="X", help="Instead of RUN: one side, a recipe, a run or samples (.npy).")
@click.option("--against", metavar="Y", help="The other side: a recipe, a run or samples (.npy).")
@click.option("--verify", metavar="FILE", help="Check a certificate again, without training.")
@click.option("--delta", default=0.05, show_default=True, help="The risk: the confidence is 1 - delta.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which samples judge, and training.")
@click.option("--samples", type=click.IntRange(2), metavar="N", help="Samples of each side that judge, at most.")
@click.option("--features", metavar="NAME", help="W1 of these features, as metrics name them, not of the samples.")
@click.option("--out", metavar="DIR", help="The folder of the result. By default certificates/<name>/<number>.")
@options(setting, blocking)
def certify(
    run: str | None,
    data: str | None,
    against: str | None,
    verify: str | None,
    delta: float,
    seed: int,
    samples: int | None,
    features: str | None,
    out: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Prove how far RUN's generator is at least from its held-out data, or any two sides from each other, in W1.

    --set changes the critic that is trained, as discriminator.use=…, and dataset.… the recipe X.
    """
    from ganframe.cli.process import keep_freed_memory

    keep_freed_memory()
    if verify is not None:
        _verify(run, verify, data, against)
        return
    from ganframe.analysis.certify import certify as certified

    found = certified(
        run,
        data=data,
        against=against,
        delta=delta,
        seed=seed,
        samples=samples,
        features=features,
        overrides=overrides,
        out=out,
    )
    table = make_table("critic", "constant", "E[data] - E[against]", "W1 is at least", "data against itself")
    for name, critic in found.found.critics.items():
        apart = critic.data.mean - critic.against.mean
        null = found.null.critics[name].certified
        table.add_row(name, f"{critic.constant:.5g}", f"{apart:.5g}", f"{critic.certified:.5g}", f"{null:.5g}")
    print_table(table)
    of_spread = f": {found.share:.1%} of the mean distance between two samples of the data, {found.spread:.5g}"
    say(found.says + (of_spread if found.spread > 0 else ""))
    say(f"the data against itself: at least {found.null.certified:.5g}, with a confidence of its own")
    if found.certified == 0:
        say("nothing is proved: the two sides may be equal, or too few samples or too weak a critic have judged them")
    click.echo(f"done: {found.folder}/ has certificate.json and the critics' weights")


def _verify(run: str | None, file: str, data: str | None, against: str | None) -> None:
    from ganframe.analysis.verify import verify_certificate
    from ganframe.errors import RequestError

    if run is not None:
        raise RequestError(f"{run}: --verify FILE takes no run; where it lies now is said by --against {run}")
    found = verify_certificate(file, data=data, against=against)
    for line in found.checked:
        say(f"as stated: {line}", indent=2)
    for line in found.missing:
        say(f"not obtained: {line}", indent=2)
    click.echo(f"verified: {found.certificate.says}")
