"""Recipes that make no sense are refused by `check` and `run`, with the place and the reason.

`python tests/recipes/test_nonsense.py 5000` tries that many random mutations of recipes and counts the outcomes.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import itertools
import math
import random
import sys
import time
import warnings
from pathlib import Path

import pytest
import tomli
import tomli_w
import torch
from PIL import Image

import ganframe
from ganframe import RequestError
from ganframe.plugins.registry import load
from ganframe.recipes.reading import structure
from ganframe.recipes.writing import to_toml
from ganframe.training.prepare import prepare

ROOT = Path(__file__).parents[2]
SEEDS = sorted([*ROOT.glob("recipes/**/*.toml"), *ROOT.glob("plugins/*/*.toml")])
SEEDS = [path for path in SEEDS if path.name != "pyproject.toml"]

# ------------------------------------------------------------------------------------------- refused before training

ADAM = "optimizer.generator={{use='Adam', {}}}"
SCHEDULE = "optimizer.{}={{use='Adam', schedule={{{}}}}}"
DIGITS = "dataset={use='digits'}"
PENALTY = "constraints=[{use='gradient_penalty'}]"

NONSENSE = {
    "gradient penalty and a discriminator with BatchNorm": (
        [PENALTY, "discriminator.norm=batch"],
        "constraints[0]: gradients of single samples need a discriminator that treats samples independently, but its "
        "BatchNorm1d mixes samples; use a discriminator without it",
    ),
    "points for a generator of images": (
        ["generator={use='dcgan'}"],
        "generator: dcgan takes images of at least 8×8 pixels; the data has shape (2,), which is not an image; choose",
    ),
    "points for a discriminator of images": (
        ["discriminator={use='resnet'}"],
        "discriminator: resnet takes images of at least 8×8 pixels; the data has shape (2,)",
    ),
    "images of an unsupported size": (
        ["dataset={use='image_folder', root='same', size=7}", "train.batch_size=3", "generator={use='dcgan'}"],
        "generator: dcgan takes images of at least 8×8 pixels; the data has shape (3, 7, 7); set the dataset's size",
    ),
    "attention at a size that no block has": (
        ["dataset={use='digits', size=28}", "generator={use='resnet', attention=16}"],
        "generator: attention = 16: no block of resnet ends at feature maps with a shorter side of 16 pixels for these "
        "images; choose one of 7, 14, 28, or 0 for no attention",
    ),
    "batch larger than the data": (
        [DIGITS, "train.batch_size=5000"],
        "dataset: a batch of 5000 is larger than the data, which has 1,797 samples",
    ),
    "batch larger than a folder of images": (
        ["dataset={use='image_folder', root='same'}", "train.batch_size=10"],
        "dataset: a batch of 10 is larger than the data, which has 3 samples",
    ),
    "batch larger than a folder of images that are read one by one": (
        ["dataset={use='image_folder', root='same', memory=0}", "train.batch_size=10"],
        "dataset: a batch of 10 is larger than the data, which has 3 samples",
    ),
    "images of several sizes": (
        ["dataset={use='image_folder', root='mixed'}"],
        "dataset: mixed: images have 2 different sizes: 1 of 8×8 (0.png), 1 of 9×8 (1.png); set `size` to resize them",
    ),
    "missing folder": (["dataset={use='image_folder', root='none'}"], "dataset: none: no such folder"),
    "generator conditioned on data without labels": (
        ["dataset={use='swiss_roll'}", "generator.condition=concat"],
        "generator: condition = 'concat' needs labels or conditions, and the data has neither; use condition = 'none'",
    ),
    "discriminator conditioned on data without labels": (
        ["dataset={use='image_folder', root='same'}", "train.batch_size=3", "discriminator.condition=projection"],
        "discriminator: condition = 'projection' needs labels or conditions, and the data has neither",
    ),
    "images of no height": (
        ["dataset={use='digits', size=[0, 8]}"],
        "dataset.size: must be at least 8 pixels along each side, not [0, 8]",
    ),
    "images of three sides": (["dataset={use='digits', size=[8, 8, 8]}"], "dataset.size: must have 2 elements, not 3"),
    "images of a size in words": (["dataset={use='digits', size='small'}"], "dataset.size: must be an integer, not"),
    "no steps": (["train.steps=0"], "train.steps: must be >= 1, not 0"),
    "no discriminator steps": (["train.critic_steps=0"], "train.critic_steps: must be >= 1, not 0"),
    "no batch for G": (["train.generator_batch_size=0"], "train.generator_batch_size: must be >= 1, not 0"),
    "no batch": (["train.batch_size=-4"], "train.batch_size: must be >= 1, not -4"),
    "no latents": (["latent.dim=0"], "latent.dim: must be >= 1, not 0"),
    "no log": (["log.every=0"], "log.every: must be >= 1, not 0"),
    "moving average that never moves": (["train.ema=1.0"], "train.ema: must be < 1, not 1.0"),
    "moving average of nothing": (["train.ema=0"], "train.ema: must be > 0, not 0.0"),
    "negative learning rate": ([ADAM.format("lr=-1e-3")], "optimizer.generator: Invalid learning rate: -0.001"),
    "learning rate NaN": ([ADAM.format("lr=nan")], "optimizer.generator.lr: must be a finite number"),
    "infinite learning rate": ([ADAM.format("lr=inf")], "optimizer.generator.lr: must be a finite number, not inf"),
    "learning rate too large for a float": ([ADAM.format("lr=1e400")], "optimizer.generator.lr: must be a finite"),
    "negative weight decay": ([ADAM.format("weight_decay=-1")], "optimizer.generator: Invalid weight_decay value"),
    "beta of 1": ([ADAM.format("betas=[0.5, 1.0]")], "optimizer.generator: Invalid beta parameter at index 1: 1.0"),
    "beta NaN": ([ADAM.format("betas=[nan, 0.9]")], "optimizer.generator.betas"),
    "infinite momentum": (
        ["optimizer.generator={use='SGD', momentum=inf}"],
        "optimizer.generator.momentum: must be a finite number, not inf",
    ),
    "optimiser that is a list": (["optimizer.generator={use=['Adam']}"], "optimizer.generator.use: unknown class"),
    "schedule that is a table": (
        ["optimizer.generator={schedule={use={}}}"],
        "optimizer.generator.schedule.use: unknown class",
    ),
    "schedule of G that ends before training": (
        [SCHEDULE.format("generator", "use='OneCycleLR', max_lr=0.1, total_steps=5")],
        "optimizer.generator.schedule: Tried to step 6 times. The specified number of total steps is 5",
    ),
    "schedule of D that ends before training": (
        [SCHEDULE.format("discriminator", "use='OneCycleLR', max_lr=0.1, total_steps=3")],
        "optimizer.discriminator.schedule: Tried to step 6 times. The specified number of total steps is 3",
    ),
    "schedule to a negative learning rate": (
        [SCHEDULE.format("generator", "use='ExponentialLR', gamma=-1")],
        "optimizer.generator.schedule: gives a learning rate of -0.001",
    ),
    "schedule with factor NaN": (
        [SCHEDULE.format("generator", "use='ExponentialLR', gamma=nan")],
        "optimizer.generator.schedule.gamma: must be a finite number, not nan",
    ),
    "weight clipping to 0": (
        ["constraints=[{use='weight_clipping', limit=0}]"],
        "constraints[0].limit: must be > 0, not 0.0",
    ),
    "weight clipping to infinity": (
        ["constraints=[{use='weight_clipping', limit=inf}]"],
        "constraints[0].limit: must be a finite number, not inf",
    ),
    "infinite penalty": (
        ["constraints=[{use='gradient_penalty', weight=inf}]"],
        "constraints[0].weight: must be a finite number, not inf",
    ),
    "constraint given twice": (
        ["constraints=[{use='spectral_norm'}, {use='spectral_norm'}]"],
        "constraints[1]: the same constraint is given before; remove one of them",
    ),
    "spectral norm given twice, with different options": (
        ["constraints=[{use='spectral_norm'}, {use='spectral_norm', power_iterations=2}]"],
        "constraints[1]: the discriminator already has spectral normalisation; apply it only once",
    ),
    "batch of one sample and BatchNorm in G": (
        ["train.batch_size=1", "generator.batch_norm=true"],
        "generator: cannot train on batches of one sample: Expected more than 1 value per channel",
    ),
    "batch of one sample and BatchNorm in D": (
        ["train.batch_size=1", "discriminator.norm=batch"],
        "discriminator: cannot train on batches of one sample: Expected more than 1 value per channel",
    ),
    "batch of one fake and BatchNorm in G": (
        ["train.generator_batch_size=1", "generator.batch_norm=true"],
        "generator: cannot train on batches of one sample",
    ),
    "batch of one fake and BatchNorm in D": (
        ["train.generator_batch_size=1", "discriminator.norm=batch"],
        "discriminator: cannot train on batches of one sample",
    ),
    "ring of infinite radius": (["dataset.radius=inf"], "dataset.radius: must be a finite number, not inf"),
    "Gaussian with mean NaN": (
        ["dataset={use='gaussian_1d', means=[nan]}"],
        "dataset.means[0]: must be a finite number, not nan",
    ),
    "Gaussian without variance": (["dataset.std=0"], "dataset.std: must be > 0, not 0.0"),
    "layer too large for memory": (
        ["generator.hidden=[99999999999999]"],
        "generator: there is not enough memory for it",
    ),
    "layer too large for an integer": (["generator.hidden=[99999999999999999999999]"], "generator: raised "),
    "modes too many for memory": (["dataset.modes=9999999999999"], "dataset: there is not enough memory for it"),
    "unknown tracker": (["log.trackers=['nope']"], "log.trackers: 'nope' is not installed"),
    "fp16 without a GPU": (["train.precision=fp16"], "train.precision: fp16 needs a GPU"),
}


@pytest.fixture
def work(tiny, tmp_path, monkeypatch):
    """A working folder with the tiny recipe and two folders of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANFRAME_STRICT", raising=False)
    tiny("[optimizer.generator]\nuse = 'Adam'\n")
    for folder, sizes in (("same", [(8, 8)] * 3), ("mixed", [(8, 8), (9, 8)])):
        (tmp_path / folder).mkdir()
        for number, size in enumerate(sizes):
            Image.new("RGB", size).save(tmp_path / folder / f"{number}.png")


@pytest.fixture
def refused(work, call):
    """refused(command, *overrides): the lines with which a command refuses the recipe; it writes nothing."""

    def lines(command, *overrides):
        before = sorted(Path.cwd().rglob("*"))
        settings = itertools.chain.from_iterable(("--set", override) for override in overrides)
        output = call(*command.split(), *settings, code=2).output
        assert sorted(Path.cwd().rglob("*")) == before
        return output.splitlines()

    return lines


COMMANDS = ["check tiny.toml", "run tiny.toml", "run tiny.toml --out out"]


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_refused_by_check_and_run_before_anything_is_written(refused, case):
    if case == "fp16 without a GPU" and torch.cuda.is_available():
        pytest.skip("a GPU has fp16")
    overrides, message = NONSENSE[case]
    for command in COMMANDS:
        (line,) = refused(command, *overrides)
        assert message in line


@pytest.mark.parametrize("command", ["check", "run"])
def test_batch_too_large_for_memory_fails_in_one_line(work, call, command):
    result = call(command, "tiny.toml", "--set", "train.batch_size=9999999999999", code=1)
    *_, line = result.output.splitlines()
    assert len([line for line in result.output.splitlines() if "memory" in line]) == 1
    assert "there is not enough memory to train this" in line
    assert "batch_size" in line


def test_relativistic_objective_needs_batches_of_one_size(refused, install_package):
    install_package(ROOT / "plugins" / "ganframe-losses")
    message = (
        "train.generator_batch_size: this objective compares each fake with a real sample; it must be batch_size, 8"
    )
    for command in COMMANDS:
        (line,) = refused(command, "objective={use='relativistic_average'}", "train.generator_batch_size=16")
        assert message in line


def test_each_part_that_does_not_fit_has_one_line(refused):
    overrides = [
        "generator={use='resnet', attention=5}",
        PENALTY,
        "discriminator.norm=batch",
        DIGITS,
        "train.batch_size=5000",
    ]
    lines = refused("check tiny.toml", *overrides)
    assert [line.split(": ")[1] for line in lines] == ["generator", "constraints[0]", "dataset"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.batch_size=1"],
        ["train.batch_size=1", "discriminator.norm=layer"],
        # BatchNorm over the pixels of one image, as in pix2pix
        [
            "train.batch_size=1",
            "dataset={use='digits', size=16}",
            "discriminator={use='dcgan', width=4}",
            "generator={use='dcgan', width=4}",
        ],
        [SCHEDULE.format("generator", "use='OneCycleLR', max_lr=0.1, total_steps=6")],
        [SCHEDULE.format("generator", "use='LinearLR', total_iters=2")],
        [SCHEDULE.format("generator", "use='CosineAnnealingLR', T_max=2")],
        [SCHEDULE.format("generator", "use='CyclicLR', base_lr=0.01, max_lr=0.1, cycle_momentum=false")],
        [ADAM.format("lr=0")],  # that player does not change
        ["constraints=[{use='weight_clipping'}, {use='spectral_norm'}]"],
    ],
    ids=str,
)
def test_unusual_but_valid_recipe_trains(work, overrides):
    recipe = ganframe.load_recipe("tiny.toml", overrides)
    assert ganframe.run(recipe, "run").log[-1]["step"] == 6


def test_resume_beyond_the_end_of_a_schedule_is_refused(work):
    recipe = ganframe.load_recipe(
        "tiny.toml", [SCHEDULE.format("generator", "use='OneCycleLR', max_lr=0.1, total_steps=6")]
    )
    run = ganframe.run(recipe, "run")
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(RequestError, match=r"optimizer\.generator\.schedule: Tried to step 9 times"):
        ganframe.resume(run.folder, ["train.steps=9"])
    assert sorted(run.folder.rglob("*")) == before


# ------------------------------------------------------------------------------------------------- mutated recipes

ODD = [
    *(None, True, False, 0, -1, 1, 2**63, 10**30, -(10**400), 0.0, -0.0, 1e308, math.nan, math.inf, -math.inf),
    *("", " ", "x" * 5000, "é\u2028\n", "\x00", "../..", "mlp", "builtin:mlp", ":", "::", "Adam", "nan"),
    *([], [[]], [[[]]], [None], [{}], [0, "a", {}], {}, {"use": "mlp"}, {"use": ""}, {"use": []}, {"use": {}}),
    *({"from": 1.0, "to": 2.0, "steps": 3}, {"from": 1, "to": "x"}, {"from": {}, "to": [], "steps": 0, "shape": 3}),
    *({"use": 1}, {"x": {"y": {"z": []}}}, {"": {}}, {"use": "ring", "modes": 10**30}, {"use": "Adam", "lr": "1"}),
]
NAMES = ["use", "seed", "name", "constraints", "train", "steps", "schedule", "optimizer", "trian", "", "a.b", "é", "😀"]
NAMES += ["every", "start", "from", "terms", "timing", "freeze", "max_norm", "lr", "ema"]


def places(value, path=()):
    """The path to each table, list and value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*path, key)
        yield from places(inside, (*path, key))


def parent(document, path):
    for key in path[:-1]:
        document = document[key]
    return document


def nested(depth):
    """Tables in tables, `depth` times."""
    value = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def mutate_document(document, dice):
    """The document with random values, tables or names added, replaced or removed."""
    document = copy.deepcopy(document)
    for _ in range(dice.choice([1, 1, 2, 3, 8])):
        found = list(places(document))
        path = dice.choice(found) if found else ()
        table = parent(document, path) if path else document
        kind = dice.randrange(9)
        if kind <= 3 and path:
            table[path[-1]] = copy.deepcopy(dice.choice(ODD))
        elif kind == 4 and path:
            del table[path[-1]]
        elif kind == 5:
            home = table if isinstance(table, dict) else document
            home[dice.choice([*NAMES, "x" * 3000])] = copy.deepcopy(dice.choice(ODD))
        elif kind == 6 and found:
            other = dice.choice(found)
            if other[: len(path)] != path:
                table[path[-1]] = copy.deepcopy(parent(document, other)[other[-1]])
        elif kind == 7:
            home = table if isinstance(table, dict) else document
            home[dice.choice(NAMES)] = nested(dice.choice([1, 10, 90]))
        else:
            constraints = document.get("constraints")
            copies = constraints if isinstance(constraints, list) else [{"use": "spectral_norm"}]
            document["constraints"] = (copies * dice.choice([2, 50]))[:100]
    return document


def mutate_text(text, dice):
    """The text as bytes, some of them removed, changed, inserted or repeated."""
    raw = bytearray(text.encode())
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        at = dice.randrange(len(raw) + 1)
        kind = dice.randrange(7)
        if kind == 0:
            del raw[at:]
        elif kind == 1:
            del raw[at : at + dice.randrange(1, 30)]
        elif kind == 2 and at < len(raw):
            raw[at] ^= 1 << dice.randrange(8)
        elif kind == 3:
            raw[at:at] = dice.choice([b"\xff\xfe", b"\x00", b"\xc3", b"\xed\xa0\x80", b"\r", b"\xef\xbb\xbf"])
        elif kind == 4:
            opened = dice.choice(["[", "{", "x = [", "x = {a = ", "[[", '"""', "x.", "'"])
            raw[at:at] = (opened * dice.choice([1, 3, 5000])).encode()
        elif kind == 5:
            odd = ["9" * 5000, "0x" + "f" * 9000, "1e999", "-nan", "1979-05-27", "07:32:00", "0b1", "1__0", "'\\u0000'"]
            raw[at:at] = dice.choice(odd).encode()
        else:
            raw[at:at] = raw[max(0, at - 60) : at]
    return bytes(raw)


def texts():
    return [path.read_text(encoding="utf-8") for path in SEEDS]


def outcome(file, mutated, registry):
    """What a mutated document or text leads to: "loads", or the class of the refusal. Other exceptions are raised."""
    refusal = None
    try:
        if isinstance(mutated, bytes):
            file.write_bytes(mutated)
            recipe = ganframe.load_recipe(file)
        else:
            recipe = structure(mutated, str(file), registry)
    except RequestError as error:
        refusal = error
    if refusal is not None:
        lines = str(refusal).splitlines()
        assert lines
        assert [line for line in lines if not line.startswith(f"{file}: ")] == []  # each line has its place
        assert "Traceback" not in str(refusal)
        return type(refusal).__name__
    again = structure(tomli.loads(to_toml(recipe)), "again", registry)
    assert again == recipe
    return "loads"


def mutations(seed):
    """Endless mutated documents and texts of all recipes."""
    dice, sources = random.Random(seed), texts()
    documents = [tomli.loads(text) for text in sources]
    while True:
        index = dice.randrange(len(sources))
        yield mutate_document(documents[index], dice)
        yield mutate_text(sources[index], dice)


@pytest.fixture
def all_plugins(install_package, tmp_path):
    for folder in sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml")):
        install_package(folder)
    return load()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(4))
def test_mutated_recipe_loads_or_is_refused(all_plugins, tmp_path, seed):
    for mutated in itertools.islice(mutations(seed), 60):
        try:
            outcome(tmp_path / "mutated.toml", mutated, all_plugins)
        except Exception as error:
            error.add_note(f"of: {mutated if isinstance(mutated, bytes) else tomli_w.dumps({'it': str(mutated)})}")
            raise


@pytest.mark.filterwarnings("ignore")
def test_mutated_recipe_that_loads_is_built_or_refused(tmp_path, tiny, monkeypatch):
    """With the smallest networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANFRAME_STRICT", raising=False)
    registry, dice = load(), random.Random(7)
    document = tomli.loads(tiny().read_text())
    checked = 0
    for _ in range(400):
        try:
            recipe = structure(mutate_document(document, dice), "mutated", registry)
        except RequestError:
            continue
        checked += 1
        with contextlib.suppress(RequestError):
            assert prepare(recipe).spec == recipe.dataset.spec
    assert checked >= 15


@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "9" * 5000,
        "x = " + "[" * 5000,
        "x = " + "{a = " * 5000,
        "x." * 5000 + "y = 1",
        "[" + "a." * 5000 + "b]",
        'name = "\\u0000"',
        "\x00",
        "",
    ],
    ids=["an integer", "lists", "tables", "a dotted key", "a dotted table", "a NUL in a name", "a NUL", "nothing"],
)
def test_text_beyond_the_limits_of_the_parser_is_refused(tmp_path, text):
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(RequestError) as refused:
        ganframe.load_recipe(file)
    assert all(line.startswith(f"{file}: ") for line in str(refused.value).splitlines())


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_override_beyond_the_limits_of_the_parser_is_refused(tiny, value):
    with pytest.raises(RequestError):
        ganframe.load_recipe(tiny(), [f"seed={value}"])


def by_hand(count, seed):
    """Prints how many of `count` mutated recipes load, are refused, or raise what they should not."""
    import tempfile

    warnings.simplefilter("ignore")
    registry, found, slowest = load(), collections.Counter(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for mutated in itertools.islice(mutations(seed), count):
            begun = time.perf_counter()
            kind = "text" if isinstance(mutated, bytes) else "document"
            try:
                found[kind, outcome(Path(folder, "mutated.toml"), mutated, registry)] += 1
            except Exception as error:
                found[kind, f"RAISED {type(error).__name__}: {str(error)[:200]}"] += 1
            slowest = max(slowest, time.perf_counter() - begun)
    for (kind, what), times in sorted(found.items()):
        print(f"{times:6}  {kind:8}  {what}")
    print(f"slowest {slowest:.2f} s")


if __name__ == "__main__":
    by_hand(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
