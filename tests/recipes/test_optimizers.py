"""Optimisers and schedules of recipes: torch's defaults, options checked against torch's signatures."""

import inspect
import json

import attrs
import pytest
import tomli
import torch

import ganframe
from ganframe import RecipeError, load_recipe
from ganframe.engine.timing import Ramp
from ganframe.plugins.registry import load
from ganframe.recipes.optimizers import Optimizer, Schedule, default_optimizer, structure_optimizer
from ganframe.recipes.strict import Problem, problems

OPTIMIZERS = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SGD", "RMSprop", "Rprop", "Adagrad", "Adadelta", "ASGD"]
SCHEDULES = [
    {"use": "ConstantLR", "total_iters": 4},
    {"use": "CosineAnnealingLR", "T_max": 5},
    {"use": "CosineAnnealingWarmRestarts", "T_0": 5},
    {"use": "CyclicLR", "base_lr": 0.1, "max_lr": 1},
    {"use": "ExponentialLR", "gamma": 0.9},
    {"use": "LinearLR", "start_factor": 1, "end_factor": 0, "total_iters": 10},
    {"use": "MultiStepLR", "milestones": [2, 4]},
    {"use": "OneCycleLR", "max_lr": 1, "total_steps": 10},
    {"use": "PolynomialLR", "total_iters": 6},
    {"use": "StepLR", "step_size": 3},
]


def parameters():
    return [torch.nn.Parameter(torch.ones(2, 3))]


def found(table):
    """The problems of an optimiser's table, as "place: text"."""
    try:
        structure_optimizer(table)
    except Exception as error:
        return [f"{place}: {text}" for place, text in problems(error)]
    return []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_has_the_defaults_of_torch(name):
    made = structure_optimizer({"use": name})
    ours, theirs = made.build(parameters()), getattr(torch.optim, name)(parameters())
    assert {**ours.defaults, "fused": None} == {**theirs.defaults, "fused": None}


@pytest.mark.parametrize("name", [*OPTIMIZERS, "Adafactor"])
def test_optimizer_is_equal_when_written_and_read_again(name, tiny, reread):
    recipe = load_recipe(tiny(), [f"optimizer.generator.use={name}"])
    assert reread(recipe) == recipe


@pytest.mark.parametrize("table", SCHEDULES, ids=lambda table: table["use"])
def test_schedule_follows_torch_and_is_equal_when_read_again(table, tiny, reread):
    recipe = load_recipe(tiny(), [f"optimizer.generator.schedule={inline(table)}"])
    assert reread(recipe) == recipe

    ours, theirs = (recipe.optimizer.generator.build(parameters()) for _ in range(2))
    options = {key: value for key, value in table.items() if key != "use"}
    schedules = [
        recipe.optimizer.generator.schedule.build(ours),
        getattr(torch.optim.lr_scheduler, table["use"])(theirs, **options),
    ]
    rates = []
    for _ in range(8):
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        rates.append(float(ours.param_groups[0]["lr"]))
        for optimizer, schedule in zip((ours, theirs), schedules, strict=True):
            optimizer.step()
            schedule.step()
    assert len(set(rates)) > 1


def inline(table):
    shown = {key: f'"{value}"' if isinstance(value, str) else value for key, value in table.items()}
    return "{" + ", ".join(f"{key} = {value}" for key, value in shown.items()) + "}"


def test_integers_become_floats_where_torch_declares_floats():
    options = structure_optimizer({"use": "Adam", "lr": 1, "betas": [0, 0.9], "eps": 1}).options
    assert options["lr"] == 1.0
    assert options["betas"] == (0.0, 0.9)
    assert [type(v) for v in (options["lr"], options["eps"], *options["betas"])] == [float] * 4
    assert structure_optimizer({"use": "SGD", "momentum": 0.9}).options["momentum"] == 0.9  # torch's default is 0


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"use": "RMSProp"}, "use: unknown class of torch.optim 'RMSProp'; did you mean 'RMSprop'?"),
        ({"use": 3}, "use: unknown class of torch.optim 3; known: "),
        ({"use": "Optimizer"}, "use: unknown class of torch.optim 'Optimizer'"),
        ({"use": "lr_scheduler"}, "use: unknown class of torch.optim 'lr_scheduler'"),
        ({"use": "LBFGS"}, "use: unknown class of torch.optim 'LBFGS'"),
        ({"lrr": 1}, "lrr: unknown option of Adam; did you mean 'lr'?"),
        ({"params": []}, "params: unknown option of Adam"),
        ({"use": "SGD", "betas": [0, 1]}, "betas: unknown option of SGD"),
        ({"lr": -1}, ": Invalid learning rate: -1.0"),
        ({"lr": "1e-3"}, "lr: must be a number, not '1e-3'"),
        ({"lr": True}, "lr: must be a number, not true"),
        ({"amsgrad": "false"}, "amsgrad: must be true or false, not 'false'"),
        ({"amsgrad": 1}, "amsgrad: must be true or false, not 1"),
        ({"betas": [0.5]}, "betas: must have 2 elements, not "),
        ({"betas": 0.5}, "betas: must be a list, not 0.5"),
        ({"betas": [0, "x"]}, "betas[1]: must be a number, not 'x'"),
        ({"betas": [0, 1.5]}, ": Invalid beta parameter at index 1: 1.5"),
        ({"use": "SGD", "momentum": True}, "momentum: must be a number, not true"),
        ({"fused": "false"}, "fused: must be true or false, not 'false'"),
        ({"foreach": 1}, "foreach: must be true or false, not 1"),
        ({"schedule": 3}, "schedule: must be a table, not 3"),
        ({"schedule": {}}, "schedule.use: "),
        ({"schedule": {"use": "LinearL"}}, "schedule.use: unknown class of torch.optim.lr_scheduler 'LinearL'; did"),
        ({"schedule": {"use": "LinearLR", "end": 0, "total_iters": 9}}, "schedule.end: unknown option of LinearLR"),
        ({"schedule": {"use": "LinearLR"}}, "schedule.total_iters: missing"),  # torch's 5 would end it at step 5
        (
            {"schedule": {"use": "LinearLR", "start_factor": 3, "total_iters": 9}},
            "schedule: Starting multiplicative factor expected",
        ),
        ({"schedule": {"use": "LinearLR", "total_iters": 2.5}}, "schedule.total_iters: must be an integer, not 2.5"),
        ({"schedule": {"use": "StepLR"}}, "schedule.step_size: missing"),
        ({"schedule": {"use": "StepLR", "step_size": 1.5}}, "schedule.step_size: must be an integer, not 1.5"),
        ({"schedule": {"use": "StepLR", "step_size": 0}}, "schedule"),
        ({"schedule": {"use": "CosineAnnealingLR", "T_max": 0}}, "schedule"),
        ({"schedule": {"use": "ExponentialLR", "gamma": "x"}}, "schedule.gamma: must be a number, not 'x'"),
        ({"schedule": {"use": "MultiStepLR", "milestones": "ab"}}, "schedule"),
    ],
    ids=str,
)
def test_mistake_is_one_problem_with_its_place(table, problem):
    (line,) = found({"use": "Adam", **table})
    assert line.startswith(problem)


@pytest.mark.parametrize(
    "name", ["LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "ChainedScheduler", "SequentialLR", "LRScheduler"]
)
def test_schedules_that_toml_cannot_express_are_refused(name):
    (line,) = found({"schedule": {"use": name}})
    assert line.startswith(f"schedule.use: unknown class of torch.optim.lr_scheduler '{name}'")


def test_optimizer_of_sparse_gradients_is_refused():
    (line,) = found({"use": "SparseAdam"})
    assert line.startswith("use: ")


def test_all_mistakes_of_an_optimizer_are_reported_at_once():
    lines = found({"use": "Adam", "lr": "x", "bets": [0, 0.9], "amsgrad": 0, "betas": [0]})
    assert sorted(line.partition(":")[0] for line in lines) == ["amsgrad", "betas", "bets", "lr"]


def test_mistakes_of_both_players_are_reported_at_once(tiny):
    both = ["optimizer.generator.lr=-1", "optimizer.discriminator.schedule={use='StepLR', gama=1}"]
    with pytest.raises(RecipeError) as raised:
        load_recipe(tiny(), both)
    places = [line.split(": ")[1] for line in raised.value.problems]
    assert places == [
        "optimizer.generator",
        "optimizer.discriminator.schedule.gama",
        "optimizer.discriminator.schedule.step_size",
    ]


def test_options_reach_torch():
    made = structure_optimizer({"use": "SGD", "lr": 0.5, "momentum": 0.25, "nesterov": True})
    (group,) = made.build(parameters()).param_groups
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.5, 0.25, True)


def test_adam_is_fused_unless_the_recipe_decides_otherwise():
    def fused(**options):
        return structure_optimizer({"use": "Adam", **options}).build(parameters()).param_groups[0]["fused"]

    assert fused() is True
    assert fused(fused=False) is False
    assert not fused(foreach=True)
    with pytest.raises(Problem, match="cannot train these networks"):
        fused(differentiable=True)  # the weights are leaves of the graph
    assert "fused" not in inspect.signature(torch.optim.Adadelta).parameters  # and is not given
    assert structure_optimizer({"use": "Adadelta"}).build(parameters())


def test_optimizer_is_adam_by_default():
    assert structure_optimizer({"lr": 0.1}).use == "Adam"
    default = default_optimizer()
    assert default.use == "Adam"
    assert default.options["lr"] == 2e-4
    assert default.options["betas"] == (0.0, 0.9)
    assert default.schedule is None


def test_structuring_does_not_change_the_table():
    table = tomli.loads("use = 'Adam'\nschedule = { use = 'ExponentialLR', gamma = 0.5 }")
    before = tomli.loads("use = 'Adam'\nschedule = { use = 'ExponentialLR', gamma = 0.5 }")
    made = structure_optimizer(table)
    assert table == before
    assert attrs.asdict(made)["schedule"] == {"use": "ExponentialLR", "options": {"gamma": 0.5, "last_epoch": -1}}
    assert isinstance(made, Optimizer)
    assert isinstance(made.schedule, Schedule)


# -------------------------------------------------------------------------------------------- options that move, norms

RAMP = {"from": 0.5, "to": 0.25, "steps": 4}


def test_options_and_elements_move():
    table = {"use": "Adam", "lr": RAMP, "betas": [0, {**RAMP, "to": 0.9, "shape": "constant"}], "eps": 1}
    made = structure_optimizer(table)
    assert (made.options["lr"], made.options["betas"]) == (0.5, (0.0, 0.5))
    assert made.ramps == {"lr": Ramp(0.5, 0.25, 4), "betas[1]": Ramp(0.5, 0.9, 4, "constant")}
    optimizer = made.build([{"params": parameters()}, {"params": parameters()}])
    found = []
    for step in (0, 2, 4, 9):
        made.move(optimizer, step)
        found.append([(group["lr"], group["betas"]) for group in optimizer.param_groups])
    expected = [(0.5, (0.0, 0.5)), (0.375, (0.0, 0.5)), (0.25, (0.0, 0.9)), (0.25, (0.0, 0.9))]
    assert found == [[values] * 2 for values in expected]


def test_both_elements_of_a_tuple_move():
    made = structure_optimizer({"betas": [RAMP, {**RAMP, "to": 0.9}]})
    optimizer = made.build(parameters())
    made.move(optimizer, 4)
    assert optimizer.param_groups[0]["betas"] == (0.25, 0.9)


def test_optimizer_without_ramps_does_not_move():
    made = default_optimizer()
    optimizer = made.build(parameters())
    before = dict(optimizer.param_groups[0])
    made.move(optimizer, 3)
    assert optimizer.param_groups[0] == before


@pytest.mark.parametrize("fused", [True, False])
def test_adam_follows_options_that_move(fused):
    """Against Adam's formulas, with lr and betas of each step."""
    table = {"lr": {"from": 0.1, "to": 0.4, "steps": 3}, "betas": [0.5, {"from": 0.6, "to": 0.9, "steps": 3}]}
    made = structure_optimizer({**table, "fused": fused})
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = made.build([weight])
    m, v, expected = 0.0, 0.0, 1.0
    for step, gradient in enumerate([1.0, -3.0, 2.0, 0.5, 0.5]):
        made.move(optimizer, step)
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        lr, beta = made.ramps["lr"].at(step), made.ramps["betas[1]"].at(step)
        m, v = 0.5 * m + 0.5 * gradient, beta * v + (1 - beta) * gradient**2
        expected -= lr * (m / (1 - 0.5 ** (step + 1))) / ((v / (1 - beta ** (step + 1))) ** 0.5 + 1e-8)
        assert weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"lr": {**RAMP, "to": -1}}, "lr.to: Invalid learning rate: -1.0"),
        ({"lr": {**RAMP, "from": -1}}, ": Invalid learning rate: -1.0"),
        ({"lr": {**RAMP, "from": "x"}}, "lr.from: must be a number, not 'x'"),
        ({"lr": {**RAMP, "steps": 0}}, "lr.steps: must be >= 1, not 0"),
        ({"lr": {"from": 1, "steps": 2}}, "lr.to: missing"),
        ({"lr": {**RAMP, "shape": "cosin"}}, "lr.shape: must be one of 'constant', 'linear', 'cosine', not 'cosin'"),
        ({"lr": {"x": 1}}, "lr: must be a number, not a table"),
        ({"lrr": RAMP}, "lrr: unknown option of Adam; did you mean 'lr'?"),
        ({"betas": [0, {**RAMP, "to": 1}]}, "betas[1].to: Invalid beta parameter at index 1: 1.0"),
        ({"betas": [0, {**RAMP, "stesp": 1}]}, "betas[1].stesp: unknown option; did you mean 'steps'?"),
        ({"betas": RAMP}, "betas: must be a list, not 0.5"),
        ({"amsgrad": RAMP}, "amsgrad: must be true or false, not 0.5"),
        ({"use": "RMSprop", "momentum": {**RAMP, "from": 0}}, "momentum.to: RMSprop cannot move from 0.0 to it: Key"),
        ({"lr": RAMP, "schedule": {"use": "ExponentialLR", "gamma": 0.9}}, "lr: moves by a ramp, and the schedule"),
        (
            {"betas": [RAMP, 0.9], "schedule": {"use": "OneCycleLR", "max_lr": 1, "total_steps": 9}},
            "betas[0]: moves by a ramp, and the schedule moves it too; remove one of them",
        ),
        ({"max_norm": 0}, "max_norm: must be > 0, not 0.0"),
        ({"max_norm": "1"}, "max_norm: must be a number, not '1'"),
        ({"max_norm": RAMP}, "max_norm: must be a number, not a table"),
        ({"use": "torch:RMSProp"}, "use: unknown class of torch.optim 'torch:RMSProp'; did you mean 'RMSprop'?"),
        ({"use": "nope:Adam"}, "use: unknown optimizer 'nope:Adam'; no plugin 'nope' is installed"),
    ],
    ids=str,
)
def test_mistake_in_a_ramp_or_norm_is_one_problem_with_its_place(table, problem):
    (line,) = found(table)
    assert line.startswith(problem)


def test_ramp_of_another_option_than_the_schedule_moves():
    table = {"weight_decay": RAMP, "schedule": {"use": "ExponentialLR", "gamma": 0.9}}
    assert structure_optimizer({"use": "AdamW", **table}).ramps.keys() == {"weight_decay"}


def test_ramps_and_norm_are_equal_when_written_and_read_again(tiny, reread):
    ramp = "{from=0.5, to=0.25, steps=4, shape='cosine'}"
    recipe = load_recipe(tiny(), [f"optimizer.generator={{lr={ramp}, betas=[0.0, {ramp}], max_norm=2}}"])
    assert reread(recipe) == recipe
    assert recipe.optimizer.generator.max_norm == 2.0
    changed = load_recipe(tiny(), [f"optimizer.generator={{lr={ramp}}}", "optimizer.generator.lr.steps=5"])
    assert changed.optimizer.generator.ramps["lr"].steps == 5


# ------------------------------------------------------------------------------------------------ optimisers of plugins

PLUGIN = """
    import torch
    from ganframe import hookimpl

    class Plain(torch.optim.Optimizer):
        def __init__(self, params, lr: float = 0.1, decay=0, scales=(1, 2.0), name=None):
            if lr < 0:
                raise ValueError(f"Invalid lr: {lr}")
            super().__init__(params, {"lr": lr})
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.data.add_(p.grad, alpha=-group["lr"])

    class Closure(Plain):
        def step(self, closure=None):
            return closure()

    class Broken(Plain):
        def __init__(self, params, lr=0.1):
            raise AssertionError("no")

    class Rival(Plain):
        pass

    @hookimpl
    def ganframe_optimizers():
        return {"Plain": Plain, "Closure": Closure, "Broken": Broken, "SGD": Rival}
"""


@pytest.fixture
def offered(install):
    """The registry with a plugin that offers optimisers."""
    install("plain", PLUGIN)
    return load()


def test_optimizer_of_a_plugin_is_named_in_full(offered):
    made = structure_optimizer({"use": "Plain", "lr": RAMP, "decay": 0.5, "scales": [1, 3]}, offered)
    assert made.use == made.full_name == "plain:Plain"
    assert made.options == {"lr": 0.5, "decay": 0.5, "scales": (1, 3.0)}
    optimizer = made.build(parameters())
    assert type(optimizer).__name__ == "Plain"
    made.move(optimizer, 4)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert structure_optimizer({"use": "plain:Plain"}, offered).use == "plain:Plain"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"use": "Plane"}, "use: unknown class of torch.optim 'Plane'; did you mean 'Plain'?"),
        ({"use": "plain:Plane"}, "use: unknown optimizer 'plain:Plane'; did you mean 'Plain'?"),
        ({"use": "Closure"}, "use: plain:Closure cannot train these networks: "),
        ({"use": "Broken"}, "use: plain:Broken cannot be built: AssertionError: no"),
        ({"use": "Plain", "lr": -1}, ": Invalid lr: -1.0"),
        ({"use": "Plain", "lr": {**RAMP, "to": -1}}, "lr.to: Invalid lr: -1.0"),
        ({"use": "Plain", "decay": RAMP}, "decay: Plain reads this option only when it is made, so it cannot move"),
        ({"use": "Plain", "name": "x"}, "name: the class declares no type for this option, so a recipe cannot set it"),
        ({"use": "Plain", "scales": [1]}, "scales: must have 2 elements, not 1"),
        ({"use": "SGD"}, "use: 'SGD' is a class of torch.optim and of a plugin; choose 'torch:SGD' or 'plain:SGD'"),
    ],
    ids=str,
)
def test_mistake_with_an_optimizer_of_a_plugin_is_one_problem(offered, table, problem):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        structure_optimizer(table, offered)
    ((place, text),) = problems(caught.value)
    assert f"{place}: {text}".startswith(problem)


def test_name_that_torch_and_a_plugin_have_is_chosen_in_full(offered):
    assert structure_optimizer({"use": "torch:SGD"}, offered).cls is torch.optim.SGD
    assert structure_optimizer({"use": "plain:SGD"}, offered).cls is not torch.optim.SGD


@pytest.mark.usefixtures("offered")
def test_run_with_an_optimizer_of_a_plugin_names_it_and_resumes(tiny, tmp_path, reread):
    recipe = load_recipe(
        tiny(), ["optimizer.generator={use='Plain', lr=0.01}", "optimizer.discriminator.use=torch:SGD"]
    )
    assert reread(recipe) == recipe
    run = ganframe.run(recipe, tmp_path / "run")
    document = tomli.loads((run.folder / "recipe.toml").read_text())
    assert [table["use"] for table in document["optimizer"].values()] == ["plain:Plain", "torch:SGD"]
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["plugins"].keys() == {"builtin", "plain"}
    assert ganframe.resume(run.folder, ["train.steps=8"]).log[-1]["step"] == 8
