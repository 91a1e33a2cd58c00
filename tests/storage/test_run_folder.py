"""Run folders: their numbers, their paths, which are refused."""

import pytest

from ganframe import RequestError
from ganframe.storage import run_folder
from ganframe.storage.run_folder import RunFolder


def test_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = [run_folder.create("ring", None).path for _ in range(3)]
    assert [str(path) for path in made] == ["runs/ring/1", "runs/ring/2", "runs/ring/3"]
    assert str(run_folder.create("other", None).path) == "runs/other/1"
    assert all((path / "samples").is_dir() and (path / "checkpoints").is_dir() for path in made)


def test_measurements_are_numbered_apart_from_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_folder.create("ring", None)
    made = [run_folder.create_measurement("ring", None) for _ in range(2)]
    assert [str(path) for path in made] == ["divergences/ring/1", "divergences/ring/2"]
    assert not any(any(path.iterdir()) for path in made)
    (made[0] / "comparison.toml").write_text("")
    assert run_folder.is_measurement(made[0])
    assert not run_folder.is_measurement(made[1])
    with pytest.raises(RequestError, match=r"is not empty; choose another --out$"):
        run_folder.create_measurement("ring", made[0])


def test_number_follows_the_highest_and_skips_other_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("7", "best", "9x"):
        (tmp_path / "runs" / "ring" / name).mkdir(parents=True)
    assert run_folder.create("ring", None).path.name == "8"
    (tmp_path / "runs" / "ring" / "9").write_text("a file")
    assert run_folder.create("ring", None).path.name == "10"


def test_out_may_be_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "new", str(tmp_path / "text")):
        assert str(run_folder.create("name", out).path) == str(out)


def test_out_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("no folder")
    for out in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(RequestError, match=r"is not empty; choose another --out, or .* --resume"):
            run_folder.create("name", out)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RequestError, match="the run folder cannot be created"):
        run_folder.create("name", tmp_path / "file" / "run")


def test_a_run_has_a_recipe(tmp_path):
    with pytest.raises(RequestError, match="not the folder of a run"):
        run_folder.existing(tmp_path)
    (tmp_path / "recipe.toml").write_text("")
    assert run_folder.existing(str(tmp_path)).path == tmp_path


def test_paths_of_a_runs_files(tmp_path):
    folder = RunFolder(tmp_path)
    paths = (folder.recipe, folder.environment, folder.log, folder.generator, folder.samples(500))
    assert [str(path.relative_to(tmp_path)) for path in (*paths, folder.checkpoint(500))] == [
        "recipe.toml",
        "environment.json",
        "log.jsonl",
        "generator.safetensors",
        "samples/step-000500.png",
        "checkpoints/step-000500",
    ]
