"""Workers of a study as jobs of a cluster, submitted by submitit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from ganframe.errors import RequestError, RunError, did_you_mean

Cluster = Literal["slurm", "local"]

MINUTES = {"slurm": 24 * 60, "local": 7 * 24 * 60}  # of a job; submitit's own default of 5, or 2, is that of a test
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


def submit(
    work: Callable[[], object], jobs: int, cluster: Cluster, options: Mapping[str, Any], name: str, folder: Path
) -> list[Any]:
    """Submits jobs that each call `work`, and returns submitit's jobs. Their output goes to `folder`.

    `work` must be a function of a module, or a partial of one. `options` are those of submitit for every cluster
    (cpus_per_task, gpus_per_node, mem_gb, …), or of Slurm (partition, account, time in minutes, …). "local" starts
    processes on this machine. Raises RequestError, before anything is submitted, where an option is wrong or there is
    no such cluster here; RunError where the cluster refuses the job.
    """
    try:
        import submitit
    except ImportError:
        raise RequestError("--cluster needs submitit; install it with: pip install 'ganframe[cluster]'") from None
    settings = {"timeout_min": MINUTES[cluster], "name": name, **_settings(options)}
    try:
        executor = submitit.AutoExecutor(folder, cluster, **{f"{cluster}_max_num_timeout": TIMEOUTS})
    except RuntimeError as error:
        raise RequestError(f"--cluster {cluster}: {error}") from None
    try:
        executor.update_parameters(**settings)
    except (NameError, ValueError, AssertionError, TypeError) as error:  # by these, submitit refuses a value
        raise RequestError(f"the options of the cluster: {' '.join(str(error).split())}") from None
    try:
        with executor.batch():
            return [executor.submit(Job(work)) for _ in range(jobs)]
    except (RuntimeError, OSError) as error:  # by these, submitit says that sbatch failed
        raise RunError(f"--cluster {cluster}: the job was refused: {' '.join(str(error).split())}") from None


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
