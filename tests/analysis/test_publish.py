"""Published models: a folder, or a repository on the hub, that gives the samples of its run and tells what it is."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
import yaml

import ganframe
from ganframe.analysis.publish import _is_path, publish
from ganframe.errors import RequestError
from ganframe.report.page_of_run import write_run_page
from ganframe.storage import hub
from ganframe.storage.evaluations import read_evaluations
from ganframe.storage.run_folder import RunFolder

BEST = """
[[metrics]]
use = "modes"
every = 2
samples = 50
[log]
checkpoint_every = 2
keep_best = "modes"
"""
CONDITIONAL = """
seed = 1
dataset = { use = "digits", size = 16 }
latent = { dim = 4 }
generator = { use = "dcgan", width = 4, condition = "batch_norm" }
discriminator = { use = "dcgan", width = 4, norm = "none", condition = "projection" }
objective = { use = "wgan" }
constraints = [{ use = "gradient_penalty" }]
train = { steps = 3, batch_size = 8, ema = 0.5 }
"""
FILES = {
    "generator.safetensors", "discriminator.safetensors", "recipe.toml", "environment.json", "README.md", "samples.png",
}  # fmt: skip


@pytest.fixture
def run(tiny, tmp_path):
    """run(more, text): the folder of a tiny run."""

    def train(more="", text=None):
        file = tiny(more)
        if text is not None:
            file.write_text(text, encoding="utf-8")
        return ganframe.run(ganframe.load_recipe(file), tmp_path / "run").folder

    return train


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A hub in a folder: what is pushed to owner/name is fetched from there. Yields the calls."""
    calls = []

    class Api:
        def whoami(self):
            return {"name": "me"}

        def create_repo(self, repo_id, private, exist_ok):
            calls.append(("create", repo_id, private, exist_ok))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    def snapshot_download(repo_id, revision, allow_patterns):
        calls.append(("fetch", repo_id, revision))
        if not (tmp_path / "hub" / repo_id).is_dir():
            raise huggingface_hub.errors.RepositoryNotFoundError("404 Client Error.\nmore", response=Response())
        assert "recipe.toml" in allow_patterns
        return str(tmp_path / "hub" / repo_id)

    class Response:
        headers, request = {}, None

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "token")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def card(folder):
    """The head and the text of a model card."""
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_folder_gives_the_samples_of_the_run(run, tmp_path):
    folder = run(text=CONDITIONAL)
    done = publish(folder, tmp_path / "new" / "model", "mit")
    assert {p.name for p in (tmp_path / "new" / "model").iterdir()} == FILES
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model"]
    G, published = ganframe.load_generator(folder), ganframe.load_generator(done.name)
    for y in (None, 3):
        assert torch.equal(G.sample(20, seed=5, y=y), published.sample(20, seed=5, y=y))
    D = folder / "checkpoints" / "step-000003" / "discriminator.safetensors"
    assert (tmp_path / "new" / "model" / "discriminator.safetensors").read_bytes() == D.read_bytes()


def test_model_card_says_data_training_licence_and_how_to_load(run, tmp_path):
    publish(run(text=CONDITIONAL), tmp_path / "model", "cc-by-4.0")
    head, text = card(tmp_path / "model")
    assert head["license"] == "cc-by-4.0"
    assert head["library_name"] == "ganframe"
    assert "pipeline_tag" not in head  # classes are asked for
    assert {"gan", "dcgan", "wgan", "gradient_penalty"} <= {*head["tags"]}
    assert "The images have shape (1, 16, 16) and values in [-1, 1]; 10 classes: 0, 1, 2" in text
    assert "Weights of step 3, a moving average of the generator's." in text
    assert "G = ganframe.load_generator('model')" in text
    assert "x = G.sample(16, y=0)" in text
    assert "None were measured." in text
    assert "pip install ganframe\n" in text
    assert str(tmp_path) not in text  # no path of this machine


def test_images_of_a_generator_that_heeds_no_label_are_unconditional(run, tmp_path):
    text = CONDITIONAL.replace(', condition = "batch_norm"', "").replace(', condition = "projection"', "")
    publish(run(text=text), tmp_path / "model")
    assert card(tmp_path / "model")[0]["pipeline_tag"] == "unconditional-image-generation"


def test_card_of_a_table_says_how_to_write_rows(run, tiny, call, tmp_path):
    pandas = pytest.importorskip("pandas", reason="needs the extra ganframe[table]")
    people = pandas.DataFrame({"age": [20.5, 30.5, 41.5, 55.5] * 8, "town": ["Bonn", "Köln", "Ulm", "Ulm"] * 8})
    (tmp_path / "data").mkdir()
    people.to_csv(tmp_path / "data" / "people.csv", index=False)
    text = tiny().read_text().replace('use = "ring"', 'use = "table"\nfile = "../data/people.csv"')
    (tmp_path / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "work")
        done = publish(run(text=text), tmp_path / "model", "mit")
    assert "recipe.toml says dataset.file = '../data/people.csv', which others will see" in done.notes
    _, told = card(tmp_path / "model")
    assert "pip install 'ganframe[table]'\nganframe sample model -n 1000 --out rows.csv\n" in told
    assert "--out samples.png" not in told
    assert "The rows of a table, coded as 2 blocks of numbers, have shape (4,)" in told
    call("sample", "model", "-n", 9, "--out", "rows.csv")
    assert [*pandas.read_csv(tmp_path / "rows.csv").columns] == ["age", "town"]


PATHS = {
    "/home/someone/a": True,
    "~/a.csv": True,
    "../data/people.csv": True,
    "data/people.csv": True,
    "C:\\data\\people.csv": True,
    "runs/demo/1": True,
    "..": True,
    "file:///home/someone/a": True,
    "people.csv": False,
    "builtin:ring": False,
    "hf://me/ring": False,
    "https://example.org/people.csv": False,
    "": False,
}


@pytest.mark.parametrize("text", PATHS)
def test_texts_that_look_like_paths_of_this_machine_are_noted(run, tmp_path, text):
    folder = run()
    recipe = folder / "recipe.toml"
    lines = recipe.read_text(encoding="utf-8").replace("[train]", f"[train]\nfrom = {json.dumps(text)}", 1)
    recipe.write_text(lines, encoding="utf-8")
    notes = publish(folder, tmp_path / "model", "mit").notes
    assert (f"recipe.toml says train.from = {text!r}, which others will see" in notes) == PATHS[text]


def test_a_name_on_the_hub_is_no_path_unless_something_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not _is_path("dataset.name", "ylecun/mnist")
    assert _is_path("dataset.root", "ylecun/mnist")
    (tmp_path / "ylecun" / "mnist").mkdir(parents=True)
    assert _is_path("dataset.name", "ylecun/mnist")


def test_points_have_no_image_task_and_no_licence_is_said(run, tmp_path):
    done = publish(run(), tmp_path / "model")
    head, text = card(tmp_path / "model")
    assert "pipeline_tag" not in head
    assert "license" not in head
    assert "## Licence\n\nNone is stated." in text
    assert done.notes == (
        "the model card names no licence; give one with --license, as --license mit",
        "the model card has no scores; `ganframe evaluate RUN` measures some",
    )


def test_best_checkpoint_is_published_with_its_own_scores_and_protocol(run, tmp_path):
    """The discriminator and the scores are those of the chosen step, each score once."""
    folder = run(BEST)
    chosen = ganframe.storage.weights.how_chosen(folder / "generator.safetensors")["step"]
    publish(folder, tmp_path / "model")
    scores = [json.loads(line) for line in (tmp_path / "model" / "evaluations.jsonl").read_text().splitlines()]
    assert {score["judged"]["step"] for score in scores} == {chosen}
    _, text = card(tmp_path / "model")
    rows = [line for line in text.splitlines() if line.startswith("| modes |")]
    assert any("the checkpoint chosen by" in row and "50 generated samples" in row for row in rows)
    assert len(rows) == len({*rows})
    D = folder / "checkpoints" / f"step-{chosen:06d}" / "discriminator.safetensors"
    assert (tmp_path / "model" / "discriminator.safetensors").read_bytes() == D.read_bytes()


def test_training_starts_from_a_published_folder(run, tiny, tmp_path, capsys):
    folder = run()
    publish(folder, tmp_path / "model")
    recipe = ganframe.load_recipe(tiny(), ["train.steps=1", f"train.from='{tmp_path / 'model'}'"])
    ganframe.run(recipe, tmp_path / "next")
    said = capsys.readouterr().err
    assert f"generator: 4 of 4 tensors from {tmp_path / 'model'}" in said
    assert f"discriminator: 4 of 4 tensors from {tmp_path / 'model'}" in said
    with pytest.raises(RequestError, match="a published model has no checkpoint to resume from"):
        ganframe.resume(tmp_path / "model")


def test_published_folder_can_be_published_again(run, tmp_path):
    publish(run(), tmp_path / "model")
    publish(tmp_path / "model", tmp_path / "again")
    one, two = (ganframe.load_generator(tmp_path / name).sample(9) for name in ("model", "again"))
    assert torch.equal(one, two)


def test_step_and_licence_of_a_published_model_are_known_and_kept(run, tmp_path):
    folder = run()
    publish(folder, tmp_path / "model", "mit")
    again = publish(tmp_path / "model", tmp_path / "again")
    assert not [note for note in again.notes if "licence" in note]
    for name in ("model", "again"):
        assert RunFolder(tmp_path / name).published_step == 6
        head, text = card(tmp_path / name)
        assert head["license"] == "mit"
        assert "Weights of step 6." in text
    publish(tmp_path / "model", tmp_path / "other", "cc-by-4.0")
    assert card(tmp_path / "other")[0]["license"] == "cc-by-4.0"
    assert RunFolder(folder).published_step is None
    before, after = (json.loads((place / "environment.json").read_text()) for place in (folder, tmp_path / "again"))
    assert after == {**before, "published": {"step": 6, "licence": "mit"}}


def test_a_model_without_environment_is_loaded_without_a_warning(run, tmp_path, recwarn):
    folder = run()
    (folder / "environment.json").unlink()
    publish(folder, tmp_path / "model")
    ganframe.load_generator(tmp_path / "model")
    assert RunFolder(tmp_path / "model").published_step == 6
    assert not [str(warned.message) for warned in recwarn if "it was made with" in str(warned.message)]


@pytest.mark.parametrize("more", ["", BEST], ids=["last", "best"])
def test_scores_of_a_published_model_are_of_its_step(run, tmp_path, more):
    folder = run(more)
    ganframe.evaluate(folder, ["modes"], samples=40)
    model = publish(folder, tmp_path / "model").name
    before = (tmp_path / "model" / "evaluations.jsonl").read_bytes()
    found = ganframe.compare([folder, model], ["modes"], samples=40, out=tmp_path / "out")
    step = RunFolder(tmp_path / "model").published_step
    assert found.steps == (step, step)
    assert found.scores[0] == found.scores[1]
    assert (tmp_path / "model" / "evaluations.jsonl").read_bytes() == before  # its scores are there already
    (score,) = ganframe.evaluate(model, ["modes"], samples=41)
    assert score["judged"]["step"] == step
    assert read_evaluations(RunFolder(tmp_path / "model"))[-1]["judged"]["step"] == step


def test_a_checkpoint_of_a_published_model_is_refused_with_its_step(run, tmp_path):
    publish(run(), tmp_path / "model")
    with pytest.raises(RequestError, match="step 3; a published model has none; its weights are those of step 6"):
        ganframe.load_generator(tmp_path / "model", step=3)


def test_hub_round_trip(run, site, tiny, tmp_path):
    """Pushed, fetched by name, sampled from, and trained from; with the names of branches."""
    folder = run()
    done = publish(folder, "hf://me/ring", private=True)
    assert (done.place, done.name) == ("https://huggingface.co/me/ring", "hf://me/ring")
    assert site == [("create", "me/ring", True, True)]
    assert "ganframe.load_generator('hf://me/ring')" in card(tmp_path / "hub" / "me" / "ring")[1]
    for name in ("hf://me/ring", "hf://me/ring@main"):
        assert torch.equal(ganframe.load_generator(name).sample(9), ganframe.load_generator(folder).sample(9))
    assert site[-1] == ("fetch", "me/ring", "main")
    recipe = ganframe.load_recipe(tiny(), ["train.steps=1", "train.from='hf://me/ring'"])
    assert ganframe.run(recipe, tmp_path / "next").log
    assert publish(folder, "hub").name == "hf://me/tiny"


def test_samples_of_a_model_on_the_hub_are_not_written_into_the_cache(run, site, call, tmp_path):
    publish(run(), "hf://me/ring")
    call("sample", "hf://me/ring", "-n", 4)
    assert (tmp_path / "samples" / "seed-0.png").is_file()
    assert {p.name for p in (tmp_path / "hub" / "me" / "ring").iterdir()} == FILES


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf://me", "hf://me: write it as hf://owner/name, or hf://owner/name@revision"),
        ("hf://me/none", "hf://me/none: cannot be fetched: RepositoryNotFoundError: 404 Client Error."),
    ],
)
def test_wrong_names_are_refused_in_a_line(site, name, said):
    with pytest.raises(RequestError) as error:
        ganframe.load_generator(name)
    assert str(error.value) == said


def test_missing_token_and_wrong_targets_are_refused_before_anything_is_written(run, site, tmp_path, monkeypatch):
    folder = run()
    with pytest.raises(RequestError, match=r"exists and is not empty"):
        publish(folder, folder)
    with pytest.raises(RequestError, match=r"leave out @v1"):
        publish(folder, "hf://me/ring@v1")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    for to in ("hub", "hf://me/ring"):
        with pytest.raises(RequestError, match=r"no token .* `hf auth login`"):
            publish(folder, to)
    assert site == []
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RequestError, match="no intact checkpoint to publish"):
        publish(folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_published_weights_are_of_their_step_wherever_it_is_said(run, tmp_path):
    """Scores are used again, those of a new judgement are of the same step, and the page says it."""
    folder = run("[log]\ncheckpoint_every = 2")
    (score,) = ganframe.evaluate(folder, ["modes"], samples=50)
    publish(folder, tmp_path / "model")
    publish(tmp_path / "model", tmp_path / "again")
    step = score["judged"]["step"]
    for name in ("model", "again"):
        (other,) = ganframe.evaluate(tmp_path / name, ["modes"], samples=60)
        assert other["judged"]["step"] == step > 0
        assert f"Weights of step {step}" in card(tmp_path / name)[1]
    found = ganframe.compare([folder, tmp_path / "model"], ["modes"], samples=50, out=tmp_path / "out")
    assert found.steps == (step, step)
    assert found.scores[0] == found.scores[1]
    text = write_run_page(RunFolder(tmp_path / "model")).read_text(encoding="utf-8")
    assert f"A published model, of step {step}." in text
    assert "--resume" not in text


def test_damaged_newest_checkpoint_is_not_replaced_by_an_older_discriminator(run, tmp_path):
    folder = run("[log]\ncheckpoint_every = 2")
    newest = RunFolder(folder).checkpoints()[-1]
    weights = newest / "discriminator.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(RequestError, match=rf"{newest.name}.*\n.*the newest checkpoint is damaged; publish after"):
        publish(folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_this_folder_can_be_the_target(run, tmp_path, monkeypatch):
    folder = run().absolute()
    (tmp_path / "my model").mkdir()
    monkeypatch.chdir(tmp_path / "my model")
    publish(folder, ".")
    assert {p.name for p in (tmp_path / "my model").iterdir()} == FILES
    assert "ganframe sample 'my model' --out" in card(tmp_path / "my model")[1]


def test_picture_of_a_generator_that_heeds_labels_has_a_column_for_each(run, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("ganframe.report.pictures.draw", lambda *a, **options: drawn.append(options["conditions"]))
    folder = run(text=CONDITIONAL)
    drawn.clear()
    publish(folder, tmp_path / "model")
    (labels,) = drawn
    assert torch.equal(labels, torch.arange(10).repeat(10))


def test_half_written_folder_does_not_stay(run, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(RequestError, match=r"cannot be written: .*No space left"):
        publish(run(), tmp_path / "model")
    assert not [p for p in tmp_path.iterdir() if "model" in p.name]


def test_command_names_paths_that_others_would_see(run, call, tmp_path):
    folder = run()
    recipe = folder / "recipe.toml"
    text = recipe.read_text(encoding="utf-8").replace("[train]", "[train]\nfrom = '/home/someone/runs/1'", 1)
    recipe.write_text(text, encoding="utf-8")
    result = call("publish", "run", "--to", "model", "--license", "mit")
    assert result.stdout == "model: load it with ganframe.load_generator('model')\n"
    assert "note: recipe.toml says train.from = '/home/someone/runs/1', which others will see" in result.stderr


def test_only_data_is_fetched():
    """No pattern allows a file that could be run."""
    assert not [pattern for pattern in hub.FILES if pattern.endswith((".py", ".pt", ".bin", "*"))]
