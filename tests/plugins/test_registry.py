from __future__ import annotations

import sys

import attrs
import pytest

import ganframe
from ganframe import RequestError
from ganframe.plugins import registry


def namesakes(loaded, name="same"):
    return [p for p in loaded.plugins if p.name == name]


def test_installed_objective_is_found(install_objectives):
    install_objectives("ganframe-odd", plugin="odd", version="2.5")
    loaded = registry.load()
    (odd,) = namesakes(loaded, "odd")
    assert odd.status == "loaded"
    assert odd.cause == ""
    assert (odd.distribution, odd.version, odd.target) == ("ganframe-odd", "2.5", "ganframe_odd")
    assert odd.source == "odd (ganframe-odd 2.5)"
    assert odd.seconds > 0
    cls = sys.modules["ganframe_odd"].Good
    assert odd.components == {"objective": {"good": cls}}
    assert loaded.find("objective", "good") is cls
    assert loaded.find("objective", "odd:good") is cls
    assert loaded.locate(cls) == (odd, "good")
    assert "good" in loaded.names("objective")
    assert (odd, "objective", "good", cls) in list(loaded)
    assert ganframe.component("objective", "good") is cls


def test_plugins_are_ordered_by_distribution(install_objectives):
    for name in ("zz-last", "aa-first"):
        install_objectives(name)
    names = [p.distribution for p in registry.load().plugins]
    assert names == sorted(names)
    assert {"aa-first", "ganframe", "zz-last"} <= set(names)


def test_load_caches_nothing(install_objectives):
    assert "good" not in registry.load().names("objective")
    install_objectives("odd")
    assert "good" in registry.load().names("objective")


# ------------------------------------------------------------------------------------------------- blocked, and strict


@pytest.mark.parametrize("variable", ["odd", " other , odd ,", "ganframe-odd"])
def test_plugin_blocked_by_the_environment_is_not_imported(install_objectives, load_plugin, monkeypatch, variable):
    install_objectives("ganframe-odd", plugin="odd")
    monkeypatch.setenv("GANFRAME_BLOCK", variable)
    odd = load_plugin("odd")
    assert (odd.status, odd.components) == ("blocked", {})
    assert "GANFRAME_BLOCK" in odd.cause
    assert (odd.distribution, odd.version) == ("ganframe-odd", "1.0")
    assert "ganframe_odd" not in sys.modules
    monkeypatch.delenv("GANFRAME_BLOCK")
    assert load_plugin("odd").status == "loaded"
    assert "ganframe_odd" in sys.modules


def test_plugin_blocked_by_an_argument_is_not_imported(install_objectives):
    install_objectives("ganframe-odd", plugin="odd")
    loaded = registry.load(block=["odd"])
    assert namesakes(loaded, "odd")[0].status == "blocked"
    assert "ganframe_odd" not in sys.modules
    with pytest.raises(RequestError, match=r"plugin odd \(ganframe-odd 1\.0\) blocked: by --block"):
        loaded.find("objective", "odd:good")


def test_builtin_plugin_can_be_blocked():
    loaded = registry.load(block=["builtin"])
    assert namesakes(loaded, "builtin")[0].status == "blocked"
    assert "builtin" not in {p.name for p, _, _, _ in loaded}


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("exit()", SystemExit),
        ("from ganframe import hookimpl\n@hookimpl\ndef ganframe_losses(): pass", TypeError),
        ("from ganframe import hookimpl\n@hookimpl\ndef ganframe_objectives(registry): pass", TypeError),
        ("from ganframe import hookimpl\n@hookimpl\ndef ganframe_objectives(): return {'bad': 1}", TypeError),
    ],
)
def test_strict_raises_the_first_failure(install, load_plugin, monkeypatch, source, error):
    install("failing", source)
    monkeypatch.setenv("GANFRAME_STRICT", "1")
    with pytest.raises(error):
        registry.load()
    assert load_plugin("failing", block=["failing"]).status == "blocked"
    monkeypatch.setenv("GANFRAME_STRICT", "0")
    assert load_plugin("failing").status == "failed"


# --------------------------------------------------------------------------------------------------- two of one name


def test_name_offered_by_two_plugins_needs_its_full_name(install_objectives):
    install_objectives("rival", "{'wgan': Good}", version="3.1")
    loaded = registry.load()
    with pytest.raises(RequestError) as raised:
        loaded.find("objective", "wgan")
    assert str(raised.value) == (
        "objective 'wgan' is offered by 2 plugins; "
        f"choose 'builtin:wgan' from ganframe {ganframe.__version__} or 'rival:wgan' from rival 3.1"
    )
    assert loaded.find("objective", "rival:wgan") is sys.modules["rival"].Good
    assert loaded.find("objective", "builtin:wgan").__name__ == "WGAN"
    assert loaded.names("objective").count("wgan") == 1
    assert loaded.locate(sys.modules["rival"].Good)[0].name == "rival"


def test_one_name_for_two_kinds_is_no_conflict(install_objectives):
    install_objectives("rival", "{'mlp': Good}")
    loaded = registry.load()
    assert loaded.find("objective", "mlp").__name__ == "Good"
    assert loaded.find("generator", "mlp").__name__ == "MLPGenerator"


def test_two_plugins_of_one_name_are_told_apart_by_distribution(install_objectives):
    before = "@attrs.frozen\nclass Good2(Objective): pass"
    install_objectives("aa-first", "{'good': Good, 'first': Good2}", before, plugin="same")
    install_objectives("zz-last", "{'good': Good, 'last': Good2}", before, plugin="same", version="2.0")
    loaded = registry.load()
    first, last = namesakes(loaded)
    assert (first.status, last.status) == ("loaded", "loaded")
    expected = "another plugin has this name, from {}; in recipes this one is called '{}'"
    assert first.cause == expected.format("zz-last 2.0", "aa-first")
    assert last.cause == expected.format("aa-first 1.0", "zz-last")
    for name in ("good", "same:good"):
        with pytest.raises(RequestError) as raised:
            loaded.find("objective", name)
        choices = "choose 'aa-first:good' from aa-first 1.0 or 'zz-last:good' from zz-last 2.0"
        assert str(raised.value) == f"objective '{name}' is offered by 2 plugins; {choices}"
    for plugin, distribution in ((first, "aa-first"), (last, "zz-last")):
        good = plugin.components["objective"]["good"]
        assert loaded.find("objective", f"{distribution}:good") is good
        assert loaded.full_name(good) == f"{distribution}:good"
    assert loaded.find("objective", "same:last") is loaded.find("objective", "last")
    assert loaded.full_name(loaded.find("objective", "wgan")) == "builtin:wgan"


def test_plugin_called_builtin_does_not_replace_the_builtin_plugin(install_objectives):
    install_objectives("aa-first", plugin="builtin")
    loaded = registry.load()
    assert loaded.find("objective", "wgan").__name__ == "WGAN"
    assert loaded.find("objective", "builtin:wgan").__name__ == "WGAN"
    assert loaded.full_name(loaded.find("objective", "wgan")) == "ganframe:wgan"
    assert loaded.find("objective", "ganframe:wgan").__name__ == "WGAN"


def test_one_class_from_two_plugins_is_no_conflict(install, install_objectives):
    """As after a distribution was renamed, and both are installed."""
    install_objectives("old-name", module="shared")
    site = install("new-name", "pass")
    (site / "new_name-1.0.dist-info" / "entry_points.txt").write_text("[ganframe]\nshared = shared\n")
    assert registry.load().find("objective", "good").__module__ == "shared"
    assert sum(p.target == "shared" for p in registry.load().plugins) == 2


def test_failed_plugin_of_the_same_name_is_no_conflict(install, install_objectives):
    install("aa-first", "1 / 0", plugin="same")
    install_objectives("zz-last", plugin="same")
    loaded = registry.load()
    first, last = namesakes(loaded)
    assert (first.status, last.status, last.cause) == ("failed", "loaded", "")
    assert loaded.full_name(loaded.find("objective", "good")) == "same:good"


def test_one_of_two_plugins_of_one_name_is_blocked_by_its_distribution(install_objectives):
    install_objectives("aa-first", plugin="same")
    install_objectives("zz-last", plugin="same")
    loaded = registry.load(block=["aa-first"])
    first, last = namesakes(loaded)
    assert (first.status, last.status, last.cause) == ("blocked", "loaded", "")
    assert loaded.find("objective", "same:good") is sys.modules["zz_last"].Good


def test_one_entry_point_twice_in_a_distribution(install, install_objectives):
    install_objectives("other", "{'fine': Good}", module="twice_more")
    site = install_objectives("twice", plugin="same")
    (site / "twice-1.0.dist-info" / "entry_points.txt").write_text("[ganframe]\nsame = twice\nsame = twice_more\n")
    loaded = registry.load()
    assert {loaded.find("objective", name).__module__ for name in ("same:good", "same:fine")} == {"twice", "twice_more"}


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
def test_unknown_names_are_refused_with_a_hint(kind, name, message):
    with pytest.raises(RequestError) as raised:
        ganframe.component(kind, name)
    assert str(raised.value).startswith(message)


def test_message_omits_other_plugins_where_the_name_has_a_plugin(install):
    install("failing", "1 / 0")
    with pytest.raises(RequestError) as raised:
        registry.load().find("objective", "builtin:none_such")
    assert "failing" not in str(raised.value)


def test_message_names_many_failed_plugins_without_their_causes(install):
    for name in ("bad-a", "bad-b", "bad-c"):
        install(name, "1 / 0")
    loaded = registry.load()
    with pytest.raises(RequestError) as raised:
        loaded.find("objective", "hinge_of_mine")
    message = (
        "unknown objective 'hinge_of_mine'; 3 plugins are not loaded: bad_a, bad_b, bad_c (`ganframe plugins` says"
    )
    assert str(raised.value).startswith(message)
    with pytest.raises(RequestError, match=r"plugin bad_b \(bad-b 1\.0\) failed: ZeroDivisionError"):
        loaded.find("objective", "bad_b:hinge_of_mine")


def test_component_of_no_plugin_cannot_be_located():
    @attrs.frozen
    class Stray(ganframe.Objective):
        pass

    with pytest.raises(RequestError, match="Stray is offered by no loaded plugin"):
        registry.load().locate(Stray)


# ------------------------------------------------------------------------------------------------------- optimisers


@pytest.fixture
def install_optimizer(install):
    """install_optimizer(name): a plugin that offers an optimiser `Slow`."""
    source = """
    import torch
    from ganframe import hookimpl

    class Slow(torch.optim.SGD):
        pass

    @hookimpl
    def ganframe_optimizers():
        return {"Slow": Slow}
    """
    return lambda name: install(name, source)


def test_optimizers_are_found_by_name_and_by_full_name(install_optimizer):
    install_optimizer("slow")
    loaded = registry.load()
    Slow = loaded.optimizer("Slow")
    assert Slow is loaded.optimizer("slow:Slow") is sys.modules["slow"].Slow
    assert (loaded.full_name(Slow), loaded.locate(Slow)[0].name) == ("slow:Slow", "slow")
    assert loaded.offers(Slow)
    assert "Slow" not in {name for _, _, name, _ in loaded}  # it is no component


def test_unknown_and_ambiguous_optimizers_are_refused(install_optimizer):
    install_optimizer("slow")
    with pytest.raises(RequestError, match=r"^unknown optimizer 'Slo'; did you mean 'Slow'"):
        registry.load().optimizer("Slo")
    with pytest.raises(RequestError, match=r"^unknown objective 'Slow'; 'Slow' is of kind optimizer"):
        registry.load().find("objective", "Slow")
    install_optimizer("slower")
    with pytest.raises(RequestError, match=r"^optimizer 'Slow' is offered by 2 plugins; choose 'slow:Slow'"):
        registry.load().optimizer("Slow")
