from __future__ import annotations

import importlib
import shutil
import sys

import pytest

import ganframe
from ganframe import RequestError
from ganframe.plugins import discovery, registry


def info(site, name="odd", version="1.0"):
    """The folder of a distribution's metadata."""
    return site / f"{name}-{version}.dist-info"


@pytest.fixture
def second_site(tmp_path, monkeypatch):
    """A folder that comes later on Python's path than the one `install` writes to."""
    later = tmp_path / "later"
    later.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(later)])
    return later


# ----------------------------------------------------------------------------------------------- damaged distributions


def test_distribution_without_metadata_is_no_error(install_objectives):
    """An interrupted uninstall leaves such folders."""
    site = install_objectives("damaged")
    (info(site, "damaged") / "METADATA").unlink()
    importlib.invalidate_caches()
    assert registry.load().find("objective", "wgan").__name__ == "WGAN"


@pytest.mark.parametrize("file", ["METADATA", "entry_points.txt"])
def test_metadata_that_is_not_text_is_no_error(install_objectives, file):
    site = install_objectives("damaged")
    (info(site, "damaged") / file).write_bytes(b"\xff\xfe[ganframe]\n\x00\x80")
    assert registry.load().find("objective", "wgan").__name__ == "WGAN"


def test_damaged_entry_points_are_a_failed_plugin(install_objectives):
    site = install_objectives("damaged")
    install_objectives("elsewhere")
    (info(site, "damaged") / "entry_points.txt").write_text("[ganframe]\nnonsense\n")
    (info(site, "elsewhere") / "entry_points.txt").write_text("[console_scripts]\nnonsense\n")
    loaded = registry.load()
    (damaged,) = (p for p in loaded.plugins if p.name == "damaged")
    assert (damaged.status, damaged.target) == ("failed", "unknown")
    assert damaged.cause.startswith("entry_points.txt cannot be read: ")
    assert loaded.find("objective", "wgan").__name__ == "WGAN"
    assert not [p for p in loaded.plugins if p.distribution == "elsewhere"]


# ------------------------------------------------------------------------------------------------- required versions


def test_plugin_for_another_ganframe_is_not_imported(install_objectives, load_plugin):
    site = install_objectives("ganframe-odd", plugin="odd", version="7.0")
    with (info(site, "ganframe_odd", "7.0") / "METADATA").open("a") as metadata:
        metadata.write("Requires-Dist: torch\nRequires-Dist: GANframe[tensorboard]>=9,<10\n")
    odd = load_plugin("odd")
    assert odd.status == "failed"
    assert odd.cause == (
        f"it needs ganframe<10,>=9, and this is {ganframe.__version__}; "
        "install a version of ganframe-odd for this ganframe"
    )
    assert "ganframe_odd" not in sys.modules
    with pytest.raises(RequestError, match="needs ganframe<10,>=9"):
        ganframe.component("objective", "good")


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("ganframe>=0.1,<1", None),
        ("ganframe>=0.1,<1", "0.2.0.dev1"),
        ("ganframe", None),
        ("ganframe>9; python_version<'3'", None),
        ("ganframe>9; extra=='new'", None),
        ("no requirement!", None),
        ("x; os_name ~= 'a'", None),
    ],
)
def test_plugin_for_this_ganframe_is_loaded(install_objectives, load_plugin, monkeypatch, requirement, version):
    """A development version satisfies a range that contains it."""
    if version:
        monkeypatch.setattr(discovery, "__version__", version)
    site = install_objectives("odd")
    with (info(site) / "METADATA").open("a") as metadata:
        metadata.write(f"Requires-Dist: {requirement}\n")
    assert load_plugin("odd").status == "loaded"


# ------------------------------------------------------------------------------------------------- installed twice


@pytest.mark.parametrize(("version", "spelling"), [("2.0", "ganframe-odd"), ("1.0", "GANframe_Odd")])
def test_second_copy_of_a_distribution_is_a_failed_plugin(install_objectives, second_site, version, spelling):
    """Python imports the copy that comes first on its path."""
    site = install_objectives("ganframe-odd", plugin="odd")
    second = info(second_site, "ganframe_odd", version)
    second.mkdir()
    (second / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {spelling}\nVersion: {version}\n")
    (second / "entry_points.txt").write_text("[ganframe]\nodd = ganframe_odd\n")
    loaded = registry.load()
    used, shadowed = sorted((p for p in loaded.plugins if p.name == "odd"), key=lambda p: p.status == "failed")
    assert (used.status, used.version, used.cause) == ("loaded", "1.0", "")
    assert (shadowed.status, shadowed.version) == ("failed", version)
    assert shadowed.cause == (
        f"installed twice: 1.0 in {site} is used, not {version} in {second_site}; uninstall one of them"
    )
    assert loaded.find("objective", "good") is used.components["objective"]["good"]
    assert loaded.full_name(loaded.find("objective", "good")) == "odd:good"


def test_folder_twice_on_the_path_is_one_installation(install_objectives, load_plugin, monkeypatch, tmp_path):
    site = install_objectives("odd")
    (tmp_path / "link").symlink_to(site)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site), str(tmp_path / "link")])
    assert load_plugin("odd").status == "loaded"


@pytest.mark.parametrize("obstacle", ["version", "twice"])
def test_strict_raises_where_metadata_forbids_loading(install_objectives, second_site, monkeypatch, obstacle):
    folder = info(install_objectives("odd"))
    if obstacle == "version":
        (folder / "METADATA").write_text("Name: odd\nVersion: 1.0\nRequires-Dist: ganframe>9\n")
    else:
        shutil.copytree(folder, second_site / folder.name)
    monkeypatch.setenv("GANFRAME_STRICT", "1")
    with pytest.raises(ImportError, match=r"plugin odd \(odd 1\.0\): (it needs|installed twice)"):
        registry.load()
