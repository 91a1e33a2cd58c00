"""The command line: one module a command, or a few that belong together.

Heavy modules are imported inside the commands, so that --help answers at once.
"""

from ganframe.cli.bench import bench
from ganframe.cli.certify import certify
from ganframe.cli.common import main
from ganframe.cli.compare import compare
from ganframe.cli.evaluate import evaluate
from ganframe.cli.invert import invert
from ganframe.cli.latents import arithmetic, interpolate, sample
from ganframe.cli.measure import divergence, lipschitz
from ganframe.cli.plugins import describe, new_plugin, plugins
from ganframe.cli.recipes import recipes
from ganframe.cli.report import report
from ganframe.cli.share import export, publish
from ganframe.cli.study import study
from ganframe.cli.train import check, run

for _command in (
    run,
    check,
    bench,
    evaluate,
    compare,
    study,
    report,
    divergence,
    lipschitz,
    certify,
    recipes,
    plugins,
    describe,
    new_plugin,
    sample,
    interpolate,
    arithmetic,
    invert,
    export,
    publish,
):
    main.add_command(_command)

__all__ = ["main"]
