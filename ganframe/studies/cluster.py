"""Workers of a study as jobs of a cluster, submitted by submitit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import attrs

from ganframe.errors import RequestError, RunError, counted, did_you_mean, note
from ganframe.recipes.reading import override

Cluster = Literal["slurm", "local"]

MINUTES = {"slurm": 24 * 60, "local": 7 * 24 * 60}  # of a job; submitit's own default of 5, or 2, is that of a test
INTERVAL = 1.0  # seconds between two looks at the jobs
TIMEOUTS = 1000  # after which a job that ran out of time is queued once more; each continues what the last one did


@attrs.frozen
class Job:
    """What a job calls. One that is preempted, or out of time, is queued again, and calls the same once more."""

    work: Callable[[], object]

    def __call__(self) -> None:
        self.work()

    def checkpoint(self) -> Any:
        """What submitit queues again: nothing has to be saved, as runs are resumed from their own checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def read_options(cluster: Cluster, table: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """The options of jobs by submitit's names: those of a table [cluster], and over them texts such as "time=90".

    They are those of submitit for every cluster (cpus_per_task, gpus_per_node, mem_gb, …), and of Slurm (partition,
    account, time in minutes, …). Raises RequestError where one is wrong, and where there is no such cluster here.
    """
    submitit = _submitit()
    options = dict(table)
    for text in texts:
        try:
            override(options, text)
        except RequestError as error:
            raise RequestError(str(error).replace("--set", "--cluster-option", 1)) from None
    settings = {"timeout_min": MINUTES[cluster], **_settings(options)}
    with TemporaryDirectory() as nowhere:
        try:
            submitit.AutoExecutor(nowhere, cluster).update_parameters(**settings)
        except RuntimeError as error:
            raise RequestError(f"--cluster {cluster}: {error}") from None
        except (NameError, ValueError, AssertionError, TypeError) as error:  # by these, submitit refuses a value
            raise RequestError(f"the options of the cluster: {' '.join(str(error).split())}") from None
    return settings


def submit(
    work: Callable[[], object], jobs: int, cluster: Cluster, settings: Mapping[str, Any], name: str, folder: Path
) -> list[Any]:
    """Submits jobs that each call `work`, and returns them as submitit has them. Their output goes to `folder`.

    `work` must be a function of a module, or a partial of one. `settings` are those of `read_options`. "local" starts
    processes on this machine. Raises RunError where the cluster refuses the jobs.
    """
    executor = _submitit().AutoExecutor(folder, cluster, **{f"{cluster}_max_num_timeout": TIMEOUTS})
    executor.update_parameters(name=name, **settings)
    try:
        with executor.batch():
            found = [executor.submit(Job(work)) for _ in range(jobs)]
    except (RuntimeError, OSError) as error:  # by these, submitit says that sbatch failed
        raise RunError(f"--cluster {cluster}: the jobs were refused: {' '.join(str(error).split())}") from None
    note(f"{counted(jobs, 'job')} submitted: {', '.join(job.job_id for job in found)}; their output is in {folder}")
    return found


def attend(jobs: Sequence[Any], look: Callable[[], None]) -> None:
    """Waits for jobs to end, and calls `look` now and then. They go on where this is interrupted.

    Raises KeyboardInterrupt, which says so.
    """
    try:
        while not all(job.done() for job in jobs):
            look()
            time.sleep(INTERVAL)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the jobs go on: {', '.join(job.job_id for job in jobs)}") from None


def _submitit() -> Any:
    """submitit. Raises RequestError, with the command that installs it, where it is not there."""
    try:
        import submitit
    except ImportError:
        raise RequestError("--cluster needs submitit; install it with: pip install 'ganframe[cluster]'") from None
    return submitit


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by submitit's names. Raises RequestError for names that neither submitit nor Slurm has."""
    from submitit import AutoExecutor, SlurmExecutor

    shared, slurm = AutoExecutor._valid_parameters(), SlurmExecutor._valid_parameters()
    settings = {}
    for name, value in options.items():
        known = name.removeprefix("slurm_")
        if name == "time":
            name = "timeout_min"
            if type(value) is not int:
                raise RequestError(f"the options of the cluster: time is a number of minutes, not {value!r}")
        elif name not in shared:
            if known not in slurm:
                near = did_you_mean(known, {*shared, *slurm})
                raise RequestError(f"the options of the cluster: unknown option '{name}'{near}")
            name = f"slurm_{known}"
        settings[name] = value
    return settings
