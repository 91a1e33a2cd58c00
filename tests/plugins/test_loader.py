from __future__ import annotations

import pytest
import torch

from ganframe import RequestError
from ganframe.plugins import registry


def hook(function):
    """The source of a plugin with one hook."""
    return f"from ganframe import hookimpl\n@hookimpl\ndef {function}"


NOTHING = "TypeError: no hook returns a component, an optimizer or features; the hooks are ganframe_generators, "


@pytest.fixture
def assert_failed(install_objectives):
    """assert_failed(cause): the plugin "failing" is in the registry with this cause, and others are not affected."""

    def check(cause):
        install_objectives("other", "{'fine': Good}")
        loaded = registry.load()
        (failing,) = (p for p in loaded.plugins if p.name == "failing")
        assert failing.status == "failed"
        assert failing.cause.startswith(cause)
        assert failing.components == {}
        assert loaded.find("objective", "fine").__name__ == "Good"
        assert loaded.find("objective", "wgan").__name__ == "WGAN"
        assert "good" not in loaded.names("objective")  # nothing of a plugin that fails in part
        with pytest.raises(RequestError) as raised:
            loaded.find("objective", "bad")
        assert f"; plugin failing (failing 1.0) failed: {failing.cause}" in str(raised.value)

    return check


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError: "),
        ("import sys; sys.exit('goodbye')", "SystemExit: goodbye: it called exit() (failing.py, line 1)"),
        ("exit()", "SystemExit: it called exit() (failing.py, line 1)"),
        ("raise BaseException", "BaseException"),
        ("pass\n1 / 0", "ZeroDivisionError: division by zero (failing.py, line 2)"),
        (
            hook("ganframe_objective(): return {}"),
            "TypeError: unknown hook 'ganframe_objective'; did you mean 'ganframe_objectives'?",
        ),
        (
            hook("ganframe_objectives(registry): return {}"),
            "TypeError: a hook of ganframe takes no arguments: Argument(s) {'registry'}",
        ),
        (hook("ganframe_objectives(): raise OSError('no disk')"), "OSError: no disk"),
        (hook("ganframe_objectives(): exit(3)"), "SystemExit: 3"),
        ("pass", NOTHING),
        ("def ganframe_objectives(): return {}", "TypeError: ganframe_objectives: the decorator @hookimpl is missing"),
    ],
)
def test_failing_module_is_recorded_with_its_cause(install, assert_failed, source, cause):
    install("failing", source)
    assert_failed(cause)


NOT_ATTRS = "TypeError: objective 'bad': Bad is not an attrs class; decorate it with @attrs.frozen"
MUTABLE = "TypeError: objective 'bad': Bad can be changed, and no checkpoint would keep the change; decorate it with "
NO_OBJECTIVE = "TypeError: objective 'bad': <class 'failing.Bad'> is not a subclass of ganframe.Objective"


@pytest.mark.parametrize(
    ("table", "before", "cause"),
    [
        ("{'bad': Bad}", "class Bad(Objective): pass", NOT_ATTRS),
        ("{'bad': Bad}", "class Bad(Good): pass", NOT_ATTRS),
        ("{'good': Good, 'bad': Bad}", "class Bad(Objective): pass", NOT_ATTRS),
        ("{'bad': Bad}", "@attrs.frozen\nclass Bad: pass", NO_OBJECTIVE),
        (
            "{'bad': Bad}",
            "@attrs.frozen\nclass Bad(Constraint): pass",
            f"{NO_OBJECTIVE}; ganframe_constraints is its hook",
        ),
        ("{'bad': Good()}", "", "TypeError: objective 'bad': give the class, Good, not an instance of it"),
        ("{'a:b': Good}", "", "TypeError: objective 'a:b': a name must be a non-empty string without ':'"),
        ("{'': Good}", "", "TypeError: objective '': a name must be"),
        ("{3: Good}", "", "TypeError: objective 3: a name must be"),
        ("[Good]", "", "TypeError: ganframe_objectives returned a list, not a table: "),
        ("None", "", "TypeError: ganframe_objectives returned None, not a table"),
        ("{}", "", NOTHING),
        (
            "{'good': Good}",
            "def ganframe_constraints(): return {}",
            "TypeError: ganframe_constraints: the decorator @hookimpl is missing",
        ),
        (
            "{'good': Good}",
            "@hookimpl(specname='ganframe_objectives')\ndef more(): return {'good': Good}",
            "TypeError: objective 'good' is given twice",
        ),
        (
            "{'bad': Bad}",
            "@attrs.define\nclass Bad(Objective):\n    margin: float = option(1.0, help='')",
            MUTABLE,
        ),
        ("{'bad': Bad}", "@attrs.define(slots=False)\nclass Bad(Objective): pass", MUTABLE),
        ("{'bad': Bad}", "@attrs.mutable\nclass Bad(Objective): pass", MUTABLE),
        (
            "{'bad': Bad}",
            "@attrs.frozen\nclass Bad(Objective):\n    twice: float = attrs.field(init=False, default=2.0)",
            "TypeError: objective 'bad': the option 'twice' has init=False, so a recipe that was written could not be "
            "read again; make it a property",
        ),
        (
            "{'bad': Bad}",
            "@attrs.frozen\nclass Bad(Objective):\n    use: int = option(1, help='')",
            "TypeError: objective 'bad': the option 'use' has the name by which a recipe chooses the component",
        ),
    ],
)
def test_invalid_component_tables_are_recorded_with_their_cause(
    install_objectives, assert_failed, table, before, cause
):
    install_objectives("failing", table, before)
    assert_failed(cause)


@pytest.mark.parametrize(
    "target", ["no_such_module_at_all", "no_such.module", "broken:no_such_attribute", "not a module!"]
)
def test_entry_point_to_nothing_is_a_failed_plugin(install, load_plugin, target):
    install("broken", "", target=target)
    broken = load_plugin("broken")
    assert (broken.status, broken.target) == ("failed", target)
    assert broken.cause
    if target.startswith("no_such"):
        assert f"its entry point names '{target}', and there is no such module" in broken.cause
    assert load_plugin("builtin").status == "loaded"


def test_entry_point_may_name_an_object_in_a_module(install_objectives, load_plugin):
    source = "class Plugin: pass\nplugin = Plugin()\nplugin.ganframe_objectives = hookimpl(lambda: {'fine': Good})\n"
    install_objectives("odd", after=source, target="odd:plugin")
    assert load_plugin("odd").components["objective"].keys() == {"fine"}


def test_optional_hook_of_a_later_ganframe_is_ignored(install_objectives, load_plugin):
    install_objectives("modern", after="@hookimpl(optionalhook=True)\ndef ganframe_schedules(): return {}")
    assert load_plugin("modern").status == "loaded"


def test_keyboard_interrupt_during_import_is_raised(install):
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        registry.load()


def test_output_of_a_plugin_goes_to_standard_error(install_objectives, load_plugin, capsys):
    install_objectives("chatty", before="print('hello')", after="print('again')")
    assert load_plugin("chatty").status == "loaded"
    assert capsys.readouterr() == ("", "hello\nagain\n")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("torch.set_default_dtype(torch.float64)", "torch's default dtype"),
        ("torch.set_default_device('meta')", "torch's default device"),
        ("torch.set_grad_enabled(False)", "whether torch records gradients"),
        ("torch.manual_seed(5)", ""),
    ],
)
@pytest.mark.parametrize("end", ["", "1 / 0"])
def test_changes_of_torchs_global_state_are_undone(install_objectives, load_plugin, source, named, end):
    install_objectives("greedy", before=f"import torch\n{source}", after=end)
    torch.manual_seed(0)
    greedy = load_plugin("greedy")
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))
    assert (drawn.dtype, drawn.device.type, torch.is_grad_enabled()) == (torch.float32, "cpu", True)
    if not end:
        assert greedy.status == "loaded"
        undone = f"it changed {named} at import, for the whole process; that was undone"
        assert greedy.cause == (undone if named else "")


OPTIMIZERS = """
import torch
from ganframe import hookimpl

class Slow(torch.optim.SGD):
    pass

class Closed(torch.optim.SGD):
    def step(self, closure):
        closure()

@hookimpl
def ganframe_optimizers():
    return {table}
"""


def test_plugin_may_offer_only_optimizers(install, load_plugin):
    install("slow", OPTIMIZERS.format(table="{'Slow': Slow}"))
    slow = load_plugin("slow")
    assert (slow.status, slow.cause, slow.components) == ("loaded", "", {})
    assert {name: cls.__name__ for name, cls in slow.optimizers.items()} == {"Slow": "Slow"}


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        ("{'bad': Slow([torch.zeros(1)])}", "TypeError: optimizer 'bad': give the class, Slow, not an instance of it"),
        ("{'bad': torch.nn.Linear}", "TypeError: optimizer 'bad': <class 'torch.nn.modules.linear.Linear'> is not a "),
        ("{'bad': 'Adam'}", "TypeError: optimizer 'bad': 'Adam' is not a subclass of torch.optim.Optimizer"),
        ("{'bad': Closed}", "TypeError: optimizer 'bad': its step needs closure, but it is called without arguments"),
        ("{'bad': torch.optim.LBFGS}", "TypeError: optimizer 'bad': its step needs closure"),
        ("{'a:b': Slow}", "TypeError: optimizer 'a:b': a name must be a non-empty string without ':'"),
        ("None", "TypeError: ganframe_optimizers returned None, not a table"),
        ("{}", NOTHING),
    ],
)
def test_invalid_optimizers_are_recorded_with_their_cause(install, assert_failed, table, cause):
    install("failing", OPTIMIZERS.format(table=table))
    assert_failed(cause)


def test_class_of_a_frozen_class_with_define_is_frozen_too(install_objectives, load_plugin):
    install_objectives("child", "{'child': Child}", "@attrs.define\nclass Child(Good): pass")
    assert load_plugin("child").status == "loaded"
