"""A resumed run is the same run, or is refused, or says that it is not."""

from __future__ import annotations

import json
import shutil
import tomllib

import pytest
from PIL import Image

import ganframe
from ganframe import RequestError
from ganframe.analysis.lipschitz import examine

IMAGES = """
seed = 1
[dataset]
use = "image_folder"
root = "{root}"
[generator]
use = "mlp"
hidden = [8]
[discriminator]
use = "mlp"
hidden = [8]
[objective]
use = "non_saturating"
[train]
steps = 2
batch_size = 4
[log]
checkpoint_every = 2
samples_every = 1000
"""


def paint(file, grey):
    """A picture whose file has the same size for each grey."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(file)


@pytest.fixture
def folder(tmp_path):
    """A folder with two classes of four images."""
    for i in range(8):
        paint(tmp_path / "photos" / "ab"[i % 2] / f"{i}.bmp", 20 * i)
    return tmp_path / "photos"


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """A run of two steps on the folder, which its recipe names from the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(IMAGES.format(root="photos"))
    return ganframe.run(ganframe.load_recipe("recipe.toml"), tmp_path / "run").folder


def edit(run, before, after):
    file = run / "recipe.toml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def steps_of(run):
    return tomllib.loads((run / "recipe.toml").read_text())["train"]["steps"]


def make_old(run):
    """The run as a version made it whose checkpoints had neither a recipe nor a fingerprint."""
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "recipe.toml").unlink()
        manifest = json.loads((checkpoint / "checkpoint.json").read_text())
        del manifest["files"]["recipe.toml"], manifest["data"]
        (checkpoint / "checkpoint.json").write_text(json.dumps(manifest))


# ---------------------------------------------------------------------------------------------------------- the recipe


@pytest.mark.parametrize(
    ("before", "after", "place", "was", "now"),
    [
        ("lr = 0.0002", "lr = 0.00001", "optimizer.generator.lr", "0.0002", "1e-05"),
        ("    0.9,", "    0.99,", r"optimizer.generator.betas\[1\]", "0.9", "0.99"),
        ("seed = 1", "seed = 2", "seed", "1", "2"),
        ("batch_size = 4", "batch_size = 2", "train.batch_size", "4", "2"),
        ("dim = 64", "dim = 32", "latent.dim", "64", "32"),
        ("channels = 3", "channels = 1", "dataset.channels", "3", "1"),
        ('activation = "relu"', 'activation = "tanh"', "generator.activation", '"relu"', '"tanh"'),
        ("critic_steps = 1", "critic_steps = 1\nema = 0.9", "train.ema", "not there", "0.9"),
        ("hidden = [\n    8,\n]", "hidden = [\n    8,\n    8,\n]", r"generator.hidden\[1\]", "not there", "8"),
    ],
)
def test_recipe_edited_by_hand_is_refused_with_both_values(run, before, after, place, was, now):
    edit(run, before, after)
    text = (run / "recipe.toml").read_text()
    with pytest.raises(RequestError, match=rf"{place} was {was} and is {now} \(recipe.toml\)") as caught:
        ganframe.resume(run, ["train.steps=4"])
    assert "\n" not in str(caught.value)
    assert (run / "recipe.toml").read_text() == text


def test_options_that_may_change_may_also_be_edited_by_hand(run):
    edit(run, "steps = 2\n", "steps = 4\n")
    edit(run, "samples_every = 1000", "samples_every = 4")
    edit(run, "workers = 0", "workers = 1")
    done = ganframe.resume(run)
    assert done.log[-1]["step"] == 4
    assert (run / "samples" / "step-000004.png").exists()


def test_set_that_undoes_an_edit_resumes_and_recipe_says_what_is_in_use(run):
    edit(run, "dim = 64", "dim = 32")
    ganframe.resume(run, ["train.steps=4", "latent.dim=64"])
    assert tomllib.loads((run / "recipe.toml").read_text())["latent"]["dim"] == 64
    assert steps_of(run) == 4


def test_options_of_the_dataset_that_are_no_paths_may_not_change(run):
    with pytest.raises(RequestError, match=r"dataset.memory was 2.0 and is 0.0 \(--set\)"):
        ganframe.resume(run, ["train.steps=4", "dataset.memory=0.0"])


def test_recipe_edited_before_the_first_checkpoint_is_the_recipe(run):
    shutil.rmtree(run / "checkpoints")
    edit(run, "dim = 64", "dim = 32")
    assert ganframe.resume(run).log[-1]["step"] == 2


def test_damaged_recipe_of_a_checkpoint_is_passed_by(run, capsys):
    ganframe.resume(run, ["train.steps=4"])
    (run / "checkpoints" / "step-000004" / "recipe.toml").write_text("damaged")
    edit(run, "dim = 64", "dim = 32")
    with pytest.raises(RequestError, match=r"latent.dim was 64 and is 32"):
        ganframe.resume(run, ["train.steps=6"])


def test_checkpoint_without_recipe_and_fingerprint_is_resumed(run, folder, capsys):
    make_old(run)
    folder.rename(folder.with_name("moved"))
    ganframe.resume(run, ["train.steps=4", f"dataset.root={folder.with_name('moved')}"])
    assert "dataset.root is taken to be the same data" in capsys.readouterr().err


def test_optimizer_edited_in_a_run_without_recipes_in_checkpoints_is_refused(run):
    make_old(run)
    edit(run, "lr = 0.0002", "lr = 0.00001")
    with pytest.raises(RequestError, match=r"optimizer.generator.lr was 0.0002 and is 1e-05"):
        ganframe.resume(run, ["train.steps=4"])


# ------------------------------------------------------------------------------------------------------------ the data


def add_image(folder):
    paint(folder / "a" / "new.bmp", 90)


def remove_image(folder):
    (folder / "b" / "1.bmp").unlink()


def replace_image(folder):
    """By another of as many bytes."""
    paint(folder / "b" / "3.bmp", 200)


def move_to_another_class(folder):
    (folder / "a" / "2.bmp").rename(folder / "b" / "2.bmp")


def rename_image(folder):
    (folder / "a" / "0.bmp").rename(folder / "a" / "z.bmp")


def rename_class(folder):
    (folder / "a").rename(folder / "c")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (add_image, "samples was 8 and is 9"),
        (remove_image, "samples was 8 and is 7"),
        (replace_image, "contents of files differ"),
        (move_to_another_class, "labels of files differ"),
        (rename_image, "file names differ"),
        (rename_class, "file names differ"),
    ],
)
def test_images_that_changed_are_refused(run, folder, change, named):
    change(folder)
    before = (run / "recipe.toml").read_text()
    with pytest.raises(RequestError, match=named) as caught:
        ganframe.resume(run, ["train.steps=4"])
    assert "\n" not in str(caught.value)
    assert "--set" in str(caught.value)
    assert "train.from" in str(caught.value)
    assert (run / "recipe.toml").read_text() == before
    assert not (run / "checkpoints" / "step-000004").exists()


def test_copied_images_with_other_times_are_the_same(run, folder, tmp_path):
    """They may lie elsewhere too, and recipe.toml then says where."""
    moved = tmp_path / "elsewhere" / "pictures"
    shutil.copytree(folder, moved, copy_function=shutil.copyfile)
    shutil.rmtree(folder)
    ganframe.resume(run, ["train.steps=4", f'dataset.root="{moved}"'])
    assert tomllib.loads((run / "recipe.toml").read_text())["dataset"]["root"] == str(moved)


def test_root_edited_by_hand_to_the_same_images_resumes(run, folder):
    folder.rename(folder.with_name("moved"))
    edit(run, 'root = "photos"', 'root = "moved"')
    assert ganframe.resume(run, ["train.steps=4"]).log[-1]["step"] == 4


def test_other_images_under_another_root_are_refused(run, folder):
    shutil.copytree(folder, folder.with_name("others"))
    paint(folder.with_name("others") / "a" / "0.bmp", 255)
    with pytest.raises(RequestError, match="contents of files differ"):
        ganframe.resume(run, ["train.steps=4", "dataset.root=others"])


def test_relative_root_that_leads_elsewhere_is_refused(run, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for i in range(8):
        paint(other / "photos" / "ab"[i % 2] / f"{i}.bmp", 255 - 20 * i)
    monkeypatch.chdir(other)
    with pytest.raises(RequestError, match=rf'dataset.root = "photos" is looked for in {other}'):
        ganframe.resume(run, ["train.steps=4"])


def test_relative_root_that_leads_nowhere_says_from_where(run, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(RequestError, match=rf'dataset.root: "photos" is looked for in {tmp_path}/other'):
        ganframe.resume(run, ["train.steps=4"])


# ------------------------------------------------------------------------------------------------ data of other plugins

TABLE = """
from pathlib import Path
import attrs, torch
from torch.utils.data import Dataset as TorchDataset, TensorDataset
from ganframe import Dataset, DataSpec, hookimpl, option

class Rows(TorchDataset):
    def __init__(self, x): self.x = x
    def __len__(self): return len(self.x)
    def __getitem__(self, index): return self.x[index], 0

@attrs.frozen
class Table(Dataset):
    "Points of a file, in memory or read one by one."
    file: str = option(help="the file")
    scale: float = option(1.0, help="factor")
    lazy: bool = option(False, help="whether to read one by one")

    @property
    def spec(self): return DataSpec((1,))

    def build(self):
        x = self.scale * torch.tensor([[float(v)] for v in Path(self.file).read_text().split()])
        return Rows(x) if self.lazy else TensorDataset(x, torch.zeros(len(x), dtype=torch.long))

@hookimpl
def ganframe_datasets(): return {"table_file": Table}
"""


@pytest.fixture(params=["false", "true"])
def table(request, install, tmp_path, monkeypatch):
    """A run on points of a file, whose plugin says nothing of a fingerprint."""
    install("ganframe-table-file", TABLE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.txt").write_text(" ".join(map(str, range(12))))
    text = IMAGES.replace("image_folder", "table_file").replace("root =", f"lazy = {request.param}\nfile =")
    (tmp_path / "recipe.toml").write_text(text.format(root="points.txt"))
    return ganframe.run(ganframe.load_recipe("recipe.toml"), tmp_path / "run").folder


def test_changed_values_of_any_data_are_warned_of(table, tmp_path, capsys):
    (tmp_path / "points.txt").write_text(" ".join(map(str, range(12)[::-1])))
    ganframe.resume(table, ["train.steps=4"])
    assert "warning: " in (said := capsys.readouterr().err)
    assert "values of the data are not those that the run was trained on" in said


def test_another_number_of_any_samples_is_refused(table, tmp_path):
    (tmp_path / "points.txt").write_text(" ".join(map(str, range(13))))
    with pytest.raises(RequestError, match="samples was 12 and is 13"):
        ganframe.resume(table, ["train.steps=4"])


def test_any_data_may_lie_elsewhere_if_its_values_are_the_same(table, tmp_path, capsys):
    shutil.move(tmp_path / "points.txt", tmp_path / "moved.txt")
    ganframe.resume(table, ["train.steps=4", "dataset.file=moved.txt"])
    assert "warning" not in capsys.readouterr().err
    (tmp_path / "others.txt").write_text(" ".join(map(str, range(1, 13))))
    with pytest.raises(RequestError, match="values differ"):
        ganframe.resume(table, ["train.steps=6", "dataset.file=others.txt"])


# ------------------------------------------------------------------------------------------------- looking at a run


@pytest.mark.parametrize("look", [ganframe.load_generator, examine], ids=["sample", "lipschitz"])
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('activation = "relu"', 'activation = "tanh"', 'generator.activation was "relu" and is "tanh"'),
        ('distribution = "normal"', 'distribution = "uniform"', 'latent.distribution was "normal" and is "uniform"'),
    ],
)
def test_weights_are_not_used_with_a_network_that_was_edited(run, look, before, after, message):
    look(run)
    edit(run, before, after)
    with pytest.raises(RequestError, match=message):
        look(run)
