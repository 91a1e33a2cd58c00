from __future__ import annotations

import importlib
import inspect
import shutil
import sys

import attrs
import pytest
import torch

import ganframe
from ganframe import RequestError, components, discovery, hookspecs, plugins

HINGE = """
import attrs
import builtins
from ganframe import Objective, hookimpl, option

builtins.hinge_was_executed = True

@attrs.frozen
class Hinge(Objective):
    margin: float = option(1.0, help="scores beyond this distance from 0 have zero loss")

    def discriminator_loss(self, real, fake):
        return (self.margin - real).relu().mean() + (self.margin + fake).relu().mean()

    def generator_loss(self, fake, real=None):
        return -fake.mean()

@hookimpl
def ganframe_objectives():
    return {"fakehinge": Hinge}
"""


def objectives(table, before=""):
    """The source of a plugin whose hook returns `table`, with attrs and ganframe's names at hand."""
    return f"""
import attrs
from ganframe import Constraint, Objective, hookimpl, option

{before}

@hookimpl
def ganframe_objectives():
    return {table}
"""


def hook(function):
    """The source of a plugin with one hook."""
    return f"from ganframe import hookimpl\n@hookimpl\ndef {function}"


GOOD = "@attrs.frozen\nclass Good(Objective): pass"


def plugin(registry, name):
    (found,) = (p for p in registry.plugins if p.name == name)
    return found


@pytest.fixture
def executed(monkeypatch):
    """Whether the module HINGE has been executed."""
    import builtins

    monkeypatch.setattr(builtins, "hinge_was_executed", False, raising=False)
    return lambda: builtins.hinge_was_executed


def test_a_third_partys_objective_is_found(install):
    install("ganframe-fakehinge", HINGE, plugin="fakehinge", version="2.5")
    registry = plugins.load()
    hinge = plugin(registry, "fakehinge")
    assert hinge.status == "loaded"
    assert hinge.cause == ""
    assert (hinge.distribution, hinge.version, hinge.target) == ("ganframe-fakehinge", "2.5", "ganframe_fakehinge")
    assert hinge.source == "fakehinge (ganframe-fakehinge 2.5)"
    assert hinge.seconds > 0
    cls = sys.modules["ganframe_fakehinge"].Hinge
    assert hinge.components == {"objective": {"fakehinge": cls}}
    assert registry.find("objective", "fakehinge") is cls
    assert registry.find("objective", "fakehinge:fakehinge") is cls
    assert registry.locate(cls) == (hinge, "fakehinge")
    assert "fakehinge" in registry.names("objective")
    assert (hinge, "objective", "fakehinge", cls) in list(registry)
    assert ganframe.component("objective", "fakehinge") is cls


def test_an_object_in_a_module_may_be_the_plugin(install):
    source = "from ganframe_fakehinge import *\nclass Plugin:\n    pass\nplugin = Plugin()\n"
    install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    method = "plugin.ganframe_objectives = hookimpl(lambda: {'fakehinge': Hinge})\n"
    install("ganframe-object", source + method, plugin="object", target="ganframe_object:plugin")
    assert plugin(plugins.load(), "object").components["objective"].keys() == {"fakehinge"}


def test_plugins_are_ordered_by_distribution_and_name(install):
    for name in ("zz-last", "aa-first"):
        install(name, objectives("{'good': Good}", GOOD))
    names = [p.distribution for p in plugins.load().plugins]
    assert names == sorted(names)
    assert {"aa-first", "ganframe", "zz-last"} <= set(names)


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def broken(:", "SyntaxError: "),
        ("import sys; sys.exit('goodbye')", "SystemExit: goodbye: it called exit() ({module}.py, line 1)"),
        ("exit()", "SystemExit: it called exit() ({module}.py, line 1)"),
        ("raise BaseException", "BaseException"),
        ("pass\n1 / 0", "ZeroDivisionError: division by zero ({module}.py, line 2)"),
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
        (objectives("{'bad': Bad}", "class Bad(Objective): pass"), "TypeError: objective 'bad': Bad is no attrs class"),
        (
            objectives("{'bad': Bad}", f"{GOOD}\nclass Bad(Good): pass"),
            "TypeError: objective 'bad': Bad is no attrs class",
        ),
        (
            objectives("{'bad': Bad}", "@attrs.frozen\nclass Bad: pass"),
            "TypeError: objective 'bad': <class '{module}.Bad'> is no subclass of ganframe.Objective",
        ),
        (
            objectives("{'bad': Bad}", "@attrs.frozen\nclass Bad(Constraint): pass"),
            "TypeError: objective 'bad': <class '{module}.Bad'> is no subclass of ganframe.Objective; "
            "ganframe_constraints is its hook",
        ),
        (
            objectives("{'bad': Good()}", GOOD),
            "TypeError: objective 'bad': give the class, Good, not an instance of it",
        ),
        (objectives("{'a:b': Good}", GOOD), "TypeError: objective 'a:b': a name is a non-empty string without ':'"),
        (objectives("{'': Good}", GOOD), "TypeError: objective '': a name is"),
        (objectives("{3: Good}", GOOD), "TypeError: objective 3: a name is"),
        (objectives("[Good]", GOOD), "TypeError: ganframe_objectives returned a list, not a table: "),
        (objectives("None"), "TypeError: ganframe_objectives returned None, not a table"),
        (objectives("{}"), "TypeError: no hook gives a component; the hooks are ganframe_generators, "),
        ("pass", "TypeError: no hook gives a component; the hooks are ganframe_generators, "),
        ("def ganframe_objectives(): return {}", "TypeError: ganframe_objectives: the mark @hookimpl is missing"),
        (
            objectives("{'good': Good}", GOOD) + "\ndef ganframe_constraints(): return {}",
            "TypeError: ganframe_constraints: the mark @hookimpl is missing",
        ),
        (
            objectives("{'good': Good}", GOOD)
            + "\n@hookimpl(specname='ganframe_objectives')\ndef more(): return {'good': Good}",
            "TypeError: objective 'good' is given twice",
        ),
    ],
)
def test_a_plugin_that_fails_is_recorded_and_leaves_the_others_alone(install, request, source, cause):
    module = f"failing_{abs(hash(request.node.name))}"
    install("failing", source, module=module, plugin="failing")
    install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    registry = plugins.load()
    failing = plugin(registry, "failing")
    assert failing.status == "failed"
    assert failing.cause.startswith(cause.replace("{module}", module))
    assert failing.components == {}
    assert registry.find("objective", "fakehinge").__name__ == "Hinge"
    assert registry.find("objective", "wgan").__name__ == "WGAN"
    with pytest.raises(RequestError) as raised:
        registry.find("objective", "bad")
    assert f"; plugin failing (failing 1.0) failed: {failing.cause}" in str(raised.value)


@pytest.mark.parametrize(
    "target", ["no_such_module_at_all", "no_such.module", "broken:no_such_attribute", "not a module!"]
)
def test_an_entry_point_that_points_nowhere(install, target):
    install("broken", "", target=target)
    registry = plugins.load()
    assert plugin(registry, "broken").status == "failed"
    assert plugin(registry, "broken").target == target
    assert plugin(registry, "broken").cause
    if target.startswith("no_such"):
        assert f"its entry point names '{target}', where there is nothing" in plugin(registry, "broken").cause
    assert plugin(registry, "builtin").status == "loaded"


def test_one_bad_component_does_not_leave_half_a_plugin(install):
    install("half", objectives("{'good': Good, 'bad': Bad}", f"{GOOD}\nclass Bad(Objective): pass"))
    registry = plugins.load()
    assert plugin(registry, "half").status == "failed"
    assert "good" not in registry.names("objective")


def test_a_distribution_without_metadata_does_not_stop_the_others(install):
    """What an interrupted uninstall leaves behind."""
    site = install("damaged", HINGE)
    (site / "damaged-1.0.dist-info" / "METADATA").unlink()
    importlib.invalidate_caches()
    assert plugins.load().find("objective", "wgan").__name__ == "WGAN"


@pytest.mark.parametrize("file", ["METADATA", "entry_points.txt"])
def test_metadata_that_is_no_text_does_not_stop_the_others(install, file):
    site = install("damaged", HINGE)
    (site / "damaged-1.0.dist-info" / file).write_bytes(b"\xff\xfe[ganframe]\n\x00\x80")
    assert plugins.load().find("objective", "wgan").__name__ == "WGAN"


def test_ctrl_c_while_a_plugin_is_imported_is_obeyed(install):
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load()


def test_nothing_is_cached(install):
    assert "fakehinge" not in plugins.load().names("objective")
    install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    assert "fakehinge" in plugins.load().names("objective")


# ------------------------------------------------------------------------------------------------- blocked, and strict


@pytest.mark.parametrize("variable", ["fakehinge", " other , fakehinge ,"])
def test_a_plugin_blocked_by_the_environment_is_not_executed(install, monkeypatch, executed, variable):
    install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    monkeypatch.setenv("GANFRAME_BLOCK", variable)
    hinge = plugin(plugins.load(), "fakehinge")
    assert (hinge.status, hinge.components) == ("blocked", {})
    assert "GANFRAME_BLOCK" in hinge.cause
    assert (hinge.distribution, hinge.version) == ("ganframe-fakehinge", "1.0")
    assert "ganframe_fakehinge" not in sys.modules
    assert not executed()
    monkeypatch.delenv("GANFRAME_BLOCK")
    assert plugin(plugins.load(), "fakehinge").status == "loaded"
    assert executed()


def test_a_plugin_blocked_by_an_argument_is_not_executed(install, executed):
    install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    registry = plugins.load(block=["fakehinge"])
    assert plugin(registry, "fakehinge").status == "blocked"
    assert not executed()
    with pytest.raises(RequestError, match=r"plugin fakehinge \(ganframe-fakehinge 1\.0\) blocked: by --block"):
        registry.find("objective", "fakehinge:fakehinge")


def test_the_builtin_plugin_can_be_blocked_too():
    registry = plugins.load(block=["builtin"])
    assert plugin(registry, "builtin").status == "blocked"
    assert "builtin" not in {p.name for p, _, _, _ in registry}


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("exit()", SystemExit),
        (objectives("{'a:b': Good}", GOOD), TypeError),
        (hook("ganframe_losses(): pass"), TypeError),
        (hook("ganframe_objectives(registry): pass"), TypeError),
    ],
)
def test_strictly_the_first_failure_is_raised(install, monkeypatch, source, error):
    install("failing", source)
    monkeypatch.setenv("GANFRAME_STRICT", "1")
    with pytest.raises(error):
        plugins.load()
    assert plugin(plugins.load(block=["failing"]), "failing").status == "blocked"
    monkeypatch.setenv("GANFRAME_STRICT", "0")
    assert plugin(plugins.load(), "failing").status == "failed"


# -------------------------------------------------------------------------------------------------------------- rivals


def test_two_plugins_that_offer_one_name(install):
    install("rival", objectives("{'wgan': Good}", GOOD), version="3.1")
    registry = plugins.load()
    version = ganframe.__version__
    with pytest.raises(RequestError) as raised:
        registry.find("objective", "wgan")
    assert str(raised.value) == (
        "objective 'wgan' is offered by 2 plugins; "
        f"choose 'builtin:wgan' from ganframe {version} or 'rival:wgan' from rival 3.1"
    )
    assert registry.find("objective", "rival:wgan") is sys.modules["rival"].Good
    assert registry.find("objective", "builtin:wgan").__name__ == "WGAN"
    assert registry.names("objective").count("wgan") == 1
    assert registry.locate(sys.modules["rival"].Good)[0].name == "rival"


def test_one_name_for_two_kinds_is_no_conflict(install):
    install("rival", objectives("{'mlp': Good}", GOOD))
    registry = plugins.load()
    assert registry.find("objective", "mlp").__name__ == "Good"
    assert registry.find("generator", "mlp").__name__ == "MLPGenerator"


def test_two_distributions_with_one_entry_point_name(install):
    """Neither can be called the wrong one: both load, each is told of the other, and its distribution picks it."""
    both = "{'good': Good, 'NAME': Good2}"
    classes = f"{GOOD}\n@attrs.frozen\nclass Good2(Objective): pass"
    install("aa-first", objectives(both.replace("NAME", "first"), classes), plugin="same")
    install("zz-last", objectives(both.replace("NAME", "last"), classes), plugin="same", version="2.0")
    registry = plugins.load()
    first, last = (p for p in registry.plugins if p.name == "same")
    assert (first.status, last.status) == ("loaded", "loaded")
    expected = "another plugin has this name, from {}; to recipes this one is '{}'"
    assert first.cause == expected.format("zz-last 2.0", "aa-first")
    assert last.cause == expected.format("aa-first 1.0", "zz-last")
    for name in ("good", "same:good"):
        with pytest.raises(RequestError) as raised:
            registry.find("objective", name)
        choices = "choose 'aa-first:good' from aa-first 1.0 or 'zz-last:good' from zz-last 2.0"
        assert str(raised.value) == f"objective '{name}' is offered by 2 plugins; {choices}"
    for plugin, distribution in ((first, "aa-first"), (last, "zz-last")):
        good = plugin.components["objective"]["good"]
        assert registry.find("objective", f"{distribution}:good") is good
        assert registry.full_name(good) == f"{distribution}:good"
    assert registry.find("objective", "same:last") is registry.find("objective", "last")
    assert registry.full_name(registry.find("objective", "wgan")) == "builtin:wgan"


def test_a_stranger_under_the_name_of_the_builtin_plugin_takes_nothing_from_it(install):
    install("aa-first", objectives("{'good': Good}", GOOD), plugin="builtin")
    registry = plugins.load()
    assert registry.find("objective", "wgan").__name__ == "WGAN"
    assert registry.find("objective", "builtin:wgan").__name__ == "WGAN"
    assert registry.full_name(registry.find("objective", "wgan")) == "ganframe:wgan"
    assert registry.find("objective", "ganframe:wgan").__name__ == "WGAN"


def test_one_class_from_two_plugins_is_no_conflict(install):
    """As after a distribution was renamed, and both are installed."""
    install("old-name", objectives("{'good': Good}", GOOD), module="shared")
    site = install("new-name", "pass")
    (site / "new_name-1.0.dist-info" / "entry_points.txt").write_text("[ganframe]\nshared = shared\n")
    assert plugins.load().find("objective", "good").__module__ == "shared"
    assert sum(p.target == "shared" for p in plugins.load().plugins) == 2


def test_a_namesake_that_failed_is_no_rival(install):
    install("aa-first", "1 / 0", plugin="same")
    install("zz-last", objectives("{'good': Good}", GOOD), plugin="same")
    registry = plugins.load()
    first, last = (p for p in registry.plugins if p.name == "same")
    assert (first.status, last.status, last.cause) == ("failed", "loaded", "")
    assert registry.full_name(registry.find("objective", "good")) == "same:good"


def test_one_of_two_namesakes_is_blocked_by_its_distribution(install):
    install("aa-first", objectives("{'good': Good}", GOOD), plugin="same")
    install("zz-last", objectives("{'good': Good}", GOOD), plugin="same")
    registry = plugins.load(block=["aa-first"])
    first, last = (p for p in registry.plugins if p.name == "same")
    assert (first.status, last.status, last.cause) == ("blocked", "loaded", "")
    assert registry.find("objective", "same:good") is sys.modules["zz_last"].Good


def test_the_same_entry_point_twice_in_one_distribution(install):
    site = install("twice", objectives("{'good': Good}", GOOD), plugin="same")
    other = objectives("{'fine': Good}", GOOD)
    (site / "twice_more.py").write_text(other)
    (site / "twice-1.0.dist-info" / "entry_points.txt").write_text("[ganframe]\nsame = twice\nsame = twice_more\n")
    registry = plugins.load()
    assert {registry.find("objective", name).__module__ for name in ("good", "fine")} == {"twice", "twice_more"}


# ------------------------------------------------------------------------------------------- what metadata forbids


def test_a_plugin_that_needs_another_ganframe_is_not_executed(install, executed):
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge", version="7.0")
    metadata = site / "ganframe_fakehinge-7.0.dist-info" / "METADATA"
    plain = metadata.read_text()
    metadata.write_text(f"{plain}Requires-Dist: torch\nRequires-Dist: GANframe[tensorboard]>=9,<10\n")
    hinge = plugin(plugins.load(), "fakehinge")
    assert hinge.status == "failed"
    assert hinge.cause == (
        f"it needs ganframe<10,>=9, and this is {ganframe.__version__}; "
        "install a version of ganframe-fakehinge made for it"
    )
    assert not executed()
    with pytest.raises(RequestError, match="needs ganframe<10,>=9"):
        ganframe.component("objective", "fakehinge")


@pytest.mark.parametrize(
    "requirement",
    [
        "ganframe>=0.1,<1",
        "ganframe",
        "ganframe>9; python_version<'3'",
        "ganframe>9; extra=='new'",
        "no requirement!",
        "x; os_name ~= 'a'",
    ],
)
def test_a_plugin_made_for_this_ganframe_is_loaded(install, requirement):
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    with (site / "ganframe_fakehinge-1.0.dist-info" / "METADATA").open("a") as metadata:
        metadata.write(f"Requires-Dist: {requirement}\n")
    assert plugin(plugins.load(), "fakehinge").status == "loaded"


def test_a_development_version_of_ganframe_satisfies_the_range_it_lies_in(install, monkeypatch):
    monkeypatch.setattr(discovery, "__version__", "0.2.0.dev1")
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    with (site / "ganframe_fakehinge-1.0.dist-info" / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: ganframe>=0.1,<1\n")
    assert plugin(plugins.load(), "fakehinge").status == "loaded"


@pytest.fixture
def second_site(tmp_path, monkeypatch):
    """A folder that comes later on Python's path than the one `install` writes to."""
    later = tmp_path / "later"
    later.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    return later


@pytest.mark.parametrize(("version", "spelling"), [("2.0", "ganframe-fakehinge"), ("1.0", "GANframe_Fakehinge")])
def test_a_distribution_installed_twice(install, second_site, version, spelling):
    """As a wheel in one folder of the path and in another: Python imports the first."""
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    info = second_site / f"ganframe_fakehinge-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {spelling}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[ganframe]\nfakehinge = ganframe_fakehinge\n")
    registry = plugins.load()
    used, shadowed = sorted((p for p in registry.plugins if p.name == "fakehinge"), key=lambda p: p.status == "failed")
    assert (used.status, used.version, used.cause) == ("loaded", "1.0", "")
    assert (shadowed.status, shadowed.version) == ("failed", version)
    assert shadowed.cause == (
        f"installed twice: 1.0 in {site} is used, not {version} in {second_site}; uninstall one of them"
    )
    assert registry.find("objective", "fakehinge") is used.components["objective"]["fakehinge"]
    assert registry.full_name(registry.find("objective", "fakehinge")) == "fakehinge:fakehinge"


def test_a_folder_twice_on_the_path_is_one_installation(install, monkeypatch, tmp_path):
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    (tmp_path / "link").symlink_to(site)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), str(tmp_path / "link")])
    assert plugin(plugins.load(), "fakehinge").status == "loaded"


def test_a_damaged_file_of_entry_points_is_its_owners_trouble(install):
    site = install("damaged", HINGE)
    install("elsewhere", HINGE)
    (site / "damaged-1.0.dist-info" / "entry_points.txt").write_text("[ganframe]\nnonsense\n")
    (site / "elsewhere-1.0.dist-info" / "entry_points.txt").write_text("[console_scripts]\nnonsense\n")
    registry = plugins.load()
    damaged = plugin(registry, "damaged")
    assert (damaged.status, damaged.target) == ("failed", "unknown")
    assert damaged.cause.startswith("entry_points.txt cannot be read: ")
    assert registry.find("objective", "wgan").__name__ == "WGAN"
    assert not [p for p in registry.plugins if p.distribution == "elsewhere"]


@pytest.mark.parametrize("obstacle", ["version", "twice"])
def test_strictly_an_obstacle_is_raised_too(install, second_site, monkeypatch, obstacle):
    site = install("ganframe-fakehinge", HINGE, plugin="fakehinge")
    info = site / "ganframe_fakehinge-1.0.dist-info"
    if obstacle == "version":
        (info / "METADATA").write_text("Name: ganframe-fakehinge\nVersion: 1.0\nRequires-Dist: ganframe>9\n")
    else:
        shutil.copytree(info, second_site / info.name)
    monkeypatch.setenv("GANFRAME_STRICT", "1")
    with pytest.raises(ImportError, match=r"plugin fakehinge \(ganframe-fakehinge 1\.0\): (it needs|installed twice)"):
        plugins.load()


def test_what_a_plugin_prints_stays_out_of_a_commands_answer(install, capsys):
    install("chatty", "print('hello')\n" + objectives("{'good': Good}", "print('again')\n" + GOOD))
    assert plugin(plugins.load(), "chatty").status == "loaded"
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
@pytest.mark.parametrize("end", ["", "\n1 / 0"])
def test_what_a_plugin_does_to_torch_is_undone(install, source, named, end):
    install("greedy", f"import torch\n{source}\n" + objectives("{'good': Good}", GOOD) + end)
    torch.manual_seed(0)
    greedy = plugin(plugins.load(), "greedy")
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(3))
    assert (drawn.dtype, drawn.device.type, torch.is_grad_enabled()) == (torch.float32, "cpu", True)
    if not end:
        assert greedy.status == "loaded"
        assert greedy.cause == (f"it changed {named} at import, for everyone; that was undone" if named else "")


def test_an_optional_hook_of_a_later_ganframe_is_no_misspelling(install):
    later = "\n@hookimpl(optionalhook=True)\ndef ganframe_schedules(): return {}"
    install("modern", objectives("{'good': Good}", GOOD) + later)
    assert plugin(plugins.load(), "modern").status == "loaded"


def test_a_component_of_no_plugin_is_not_located():
    @attrs.frozen
    class Stray(ganframe.Objective):
        pass

    with pytest.raises(RequestError, match="Stray is offered by no loaded plugin"):
        plugins.load().locate(Stray)


# -------------------------------------------------------------------------------------------------------- looking up


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("objective", "wgn", "unknown objective 'wgn'; did you mean 'wgan'?"),
        ("objective", "qqq", "unknown objective 'qqq'; known: "),
        ("objective", "builtin:", "unknown objective 'builtin:'"),
        ("constraint", "wgan", "unknown constraint 'wgan'; 'wgan' is of kind objective"),
        ("objective", "nowhere:wgan", "unknown objective 'nowhere:wgan'; no plugin 'nowhere' is installed"),
        ("objective", ":wgan:", "unknown objective ':wgan:'"),
        ("generator", "wgan", "unknown generator 'wgan'"),
        ("objektive", "wgan", "unknown kind 'objektive'; did you mean 'objective'?"),
    ],
)
def test_an_unknown_name(kind, name, message):
    with pytest.raises(RequestError) as raised:
        ganframe.component(kind, name)
    assert str(raised.value).startswith(message)


def test_a_failure_elsewhere_is_not_blamed_where_the_plugin_was_named(install):
    install("failing", "1 / 0")
    with pytest.raises(RequestError) as raised:
        plugins.load().find("objective", "builtin:fakehinge")
    assert "failing" not in str(raised.value)


def test_many_absent_plugins_are_named_without_their_causes(install):
    for name in ("bad-a", "bad-b", "bad-c"):
        install(name, "1 / 0")
    with pytest.raises(RequestError) as raised:
        plugins.load().find("objective", "hinge_of_mine")
    message = (
        "unknown objective 'hinge_of_mine'; 3 plugins are not loaded: bad_a, bad_b, bad_c (`ganframe plugins` says"
    )
    assert str(raised.value).startswith(message)
    with pytest.raises(RequestError, match=r"plugin bad_b \(bad-b 1\.0\) failed: ZeroDivisionError"):
        plugins.load().find("objective", "bad_b:hinge_of_mine")


# ------------------------------------------------------------------------------------------ hooks and their documents


def test_there_is_one_hook_for_each_kind():
    specs = [name for name, value in vars(hookspecs).items() if getattr(value, "ganframe_spec", None)]
    assert specs == list(hookspecs.HOOKS)
    assert list(hookspecs.HOOKS.values()) == list(components.KINDS) == list(components.BASES)


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_a_hooks_example_names_its_hook_and_its_base(hook):
    text = inspect.getdoc(getattr(hookspecs, hook))
    example = inspect.cleandoc(text.partition("Example:")[2])
    base = components.BASES[hookspecs.HOOKS[hook]].__name__
    assert f"({base}):" in example
    assert f"def {hook}():" in example
    compile(example, hook, "exec")


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_a_hooks_example_is_a_plugin(install, hook):
    example = inspect.cleandoc(inspect.getdoc(getattr(hookspecs, hook)).partition("Example:")[2])
    names = "import attrs, torch\nfrom torch.nn.functional import relu\nfrom torch.utils.data import TensorDataset\n"
    install("example", f"{names}from ganframe import *\n{example}")
    found = plugin(plugins.load(), "example")
    assert found.cause == ""
    assert list(found.components) == [hookspecs.HOOKS[hook]]


def test_every_builtin_component_has_a_docstring_of_its_own_and_help_for_every_option():
    built_in = [(kind, name, cls) for p, kind, name, cls in plugins.load() if p.name == "builtin"]
    assert {kind for kind, _, _ in built_in} == set(components.KINDS)
    for kind, name, cls in built_in:
        assert cls.__doc__, f"{kind} {name}"
        assert cls.__doc__ != cls.__mro__[1].__doc__, f"{kind} {name}"
        assert cls.__doc__.partition("\n")[0].endswith((".", ".)")), f"{kind} {name}: {cls.__doc__}"
        for field in attrs.fields(cls):
            assert field.metadata.get("help"), f"{kind} {name}: {field.name}"


def test_every_builtin_component_is_frozen():
    for p, _, _, cls in plugins.load():
        assert p.name != "builtin" or cls.__setattr__ is not object.__setattr__, cls
