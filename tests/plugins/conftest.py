"""Plugins to load."""

import pytest

from ganframe.plugins import registry

SOURCE = """
import attrs
from ganframe import Constraint, Objective, hookimpl, option

@attrs.frozen
class Good(Objective):
    pass

{before}

@hookimpl
def ganframe_objectives():
    return {table}

{after}
"""


@pytest.fixture
def install_objectives(install):
    """install_objectives(name, table, ...): a plugin whose hook returns `table`; returns the site folder."""

    def write(name, table="{'good': Good}", before="", after="", **options):
        return install(name, SOURCE.format(table=table, before=before, after=after), **options)

    return write


@pytest.fixture
def load_plugin():
    """load_plugin(name, block=()): the one plugin of a name, from a new registry."""

    def load(name, block=()):
        (plugin,) = (p for p in registry.load(block).plugins if p.name == name)
        return plugin

    return load
