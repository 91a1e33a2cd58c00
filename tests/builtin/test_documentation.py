"""What `ganframe describe` shows of every built-in component."""

import attrs

from ganframe import components
from ganframe.plugins import registry


def builtin_components():
    return [(kind, name, cls) for plugin, kind, name, cls in registry.load() if plugin.name == "builtin"]


def test_builtin_components_have_docstrings_and_help_for_every_option():
    found = builtin_components()
    assert {kind for kind, _, _ in found} == {*components.KINDS} - {"term"}
    for kind, name, cls in found:
        assert cls.__doc__, f"{kind} {name}"
        assert cls.__doc__ != cls.__mro__[1].__doc__, f"{kind} {name}"
        assert cls.__doc__.partition("\n")[0].endswith((".", ".)")), f"{kind} {name}: {cls.__doc__}"
        for field in attrs.fields(cls):
            assert field.metadata.get("help"), f"{kind} {name}: {field.name}"


def test_builtin_components_are_frozen():
    for _, _, cls in builtin_components():
        assert cls.__setattr__ is not object.__setattr__, cls
