"""Workers of a study as jobs of a cluster, on submitit's local executor and a Slurm that only prints."""

import functools
import os
import re
import sys
from pathlib import Path

import pytest

from ganframe.errors import RequestError, RunError
from ganframe.studies.cluster import Job, read_options
from ganframe.studies.cluster import submit as submit_settings

pytest.importorskip("submitit")

WORK = functools.partial(os.makedirs, exist_ok=True)  # something that a job can call


def submit(work, jobs, cluster, options, name, folder):
    return submit_settings(work, jobs, cluster, read_options(cluster, options, ()), name, folder)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm whose sbatch keeps what it is given; says whether it takes jobs."""

    def install(accepts=True):
        programs = tmp_path / "bin"
        programs.mkdir()
        sbatch = f"#!/bin/sh\ncp $1 {tmp_path}/submitted.sh\n"
        sbatch += "echo Submitted batch job 12\n" if accepts else "echo invalid partition >&2; exit 1\n"
        for name, text in {"sbatch": sbatch, "srun": "#!/bin/sh\n"}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
        return tmp_path / "submitted.sh"

    return install


@pytest.mark.slow
def test_local_jobs_do_the_work(tmp_path):
    made = tmp_path / "made"
    jobs = submit(functools.partial(WORK, made), 2, "local", {"cpus_per_task": 1}, "s", tmp_path / "jobs")
    assert len(jobs) == 2
    for job in jobs:
        job.result()
    assert made.is_dir()


def test_slurm_gets_its_options(slurm, tmp_path):
    submitted = slurm()
    options = {"partition": "gpu", "time": 90, "mem_gb": 8, "gpus_per_node": 1, "slurm_account": "me"}
    jobs = submit(WORK, 3, "slurm", options, "my study", tmp_path / "jobs")
    assert [job.job_id for job in jobs] == ["12_0", "12_1", "12_2"]
    text = submitted.read_text()
    for line in ("--partition=gpu", "--time=90", "--mem=8GB", "--gpus-per-node=1", "--account=me", "--array=0-2"):
        assert f"#SBATCH {line}" in text
    assert "my study" in text


def test_a_job_has_a_day_unless_told_otherwise(slurm, tmp_path):
    submitted = slurm()
    submit(WORK, 1, "slurm", {}, "s", tmp_path / "jobs")
    assert "#SBATCH --time=1440" in submitted.read_text()


def test_options_of_the_command_line_win_over_those_of_the_study(slurm):
    slurm()
    found = read_options("slurm", {"partition": "cpu", "time": 10}, ["partition=gpu", "mem=10GB"])
    assert found == {"slurm_partition": "gpu", "timeout_min": 10, "slurm_mem": "10GB"}
    with pytest.raises(RequestError, match="--cluster-option partition: write it as"):
        read_options("slurm", {}, ["partition"])


def test_a_job_that_is_queued_again_does_the_same():
    job = Job(WORK)
    assert job.checkpoint().function is job


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partitoin": "gpu"}, "unknown option 'partitoin'; did you mean 'partition'?"),
        ({"time": "2:00:00"}, "time is a number of minutes, not '2:00:00'"),
        ({"cpus_per_task": "four"}, '"cpus_per_task" expected type'),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_submitted(slurm, tmp_path, options, words):
    submitted = slurm()
    with pytest.raises(RequestError) as error:
        submit(WORK, 1, "slurm", options, "s", tmp_path / "jobs")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not submitted.exists()
    assert not (tmp_path / "jobs").exists()


def test_a_machine_without_slurm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match="--cluster slurm: Could not detect") as error:
        submit(WORK, 1, "slurm", {}, "s", tmp_path / "jobs")
    assert "\n" not in str(error.value)


def test_a_job_that_slurm_refuses_is_a_failure(slurm, tmp_path):
    slurm(accepts=False)
    with pytest.raises(RunError, match="invalid partition") as error:
        submit(WORK, 1, "slurm", {"partition": "none"}, "s", tmp_path / "jobs")
    assert "\n" not in str(error.value)


def test_without_submitit_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RequestError, match=r"pip install 'ganframe\[cluster\]'"):
        submit(WORK, 1, "local", {}, "s", Path(tmp_path))


@pytest.mark.slow
def test_study_on_a_cluster_makes_all_runs_and_its_table(call, write_study, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    study = 'base = "tiny.toml"\nseeds = 2\n[cluster]\ncpus_per_task = 1\n'
    result = call("study", write_study(study=study), "--cluster", "local", "--jobs", 2, "--cluster-option", "time=5")
    assert result.stdout.endswith("done: studies/study/ has 2 runs: 2 finished\n")
    assert re.search(r"2 jobs submitted: \d+, \d+; their output is in studies/study/jobs\n", result.stderr)
    assert list((tmp_path / "studies" / "study" / "jobs").glob("*_result.pkl"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cluster", "local", "--cluster-option", "tmie=5"], "unknown option 'tmie'; did you mean 'time'?"),
        (["--cluster", "local", "--cluster-option", "time"], "--cluster-option time: write it as"),
        (["--cluster-option", "time=5"], "--cluster-option needs --cluster"),
    ],
)
def test_wrong_options_of_the_command_exit_with_2_and_write_nothing(call, write_study, tmp_path, arguments, words):
    result = call("study", write_study(study='base = "tiny.toml"\nseeds = 1\n'), *arguments, code=2)
    assert words in result.stderr
    assert not (tmp_path / "studies").exists()
