"""Optimisers and schedules of recipes: torch's defaults, options checked against torch's signatures."""

import inspect

import attrs
import pytest
import tomli
import torch

from ganframe import RecipeError, load_recipe
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
