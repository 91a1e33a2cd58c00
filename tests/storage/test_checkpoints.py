"""Checkpoints: complete or not there, the newest are kept, later ones are set aside."""

import codecs

import pytest
import torch
from torch import nn

from ganframe import RequestError
from ganframe.storage import checkpoints


@pytest.fixture
def save(folder, network):
    """save(step, training={}, keep=3): a checkpoint with one network."""

    def write(step, training=None, keep=3):
        checkpoints.save_checkpoint(folder, step, {"generator": network()}, training or {}, keep)

    return write


def names(folder):
    return sorted(path.name for path in (folder.path / "checkpoints").iterdir())


def test_load_restores_networks_and_training_state(folder, network, assert_same_weights):
    G, D = network(0), network(1)
    G(torch.randn(8, 2))  # changes the running statistics
    training = {"step": 5, "rng": [{"cpu": torch.get_rng_state()}], "optimizer": {"lr": 0.1, "betas": (0.0, 0.9)}}
    checkpoints.save_checkpoint(folder, 5, {"generator": G, "discriminator": D}, training, keep=3)
    other = {"generator": network(2), "discriminator": network(3)}
    restored = checkpoints.load_checkpoint(folder.checkpoint(5), other)
    assert_same_weights(other["generator"], G)
    assert_same_weights(other["discriminator"], D)
    assert restored["step"] == 5
    assert restored["optimizer"] == training["optimizer"]
    assert torch.equal(restored["rng"][0]["cpu"], training["rng"][0]["cpu"])


def test_channels_last_weights_are_saved(folder):
    conv = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    checkpoints.save_checkpoint(folder, 1, {"generator": conv}, {}, keep=1)
    other = nn.Conv2d(2, 3, 3)
    checkpoints.load_checkpoint(folder.checkpoint(1), {"generator": other})
    assert torch.equal(conv.weight, other.weight)


def test_newest_checkpoints_are_kept_by_their_step(folder, save):
    for step in (1, 999_999, 9, 1_000_000, 10):
        save(step, keep=3)
    assert [path.name for path in folder.checkpoints()] == ["step-000010", "step-999999", "step-1000000"]
    save(2_000_000, keep=1)
    assert names(folder) == ["step-2000000"]


def test_newest_intact_may_be_restricted_to_multiples(folder, save):
    for step in (5, 7, 10, 12):
        save(step, keep=4)
    (folder.checkpoint(10) / "training.pt").unlink()
    assert checkpoints.newest_intact(folder) == (folder.checkpoint(12), [])
    damage = f"{folder.checkpoint(10)}: training.pt is missing"
    assert checkpoints.newest_intact(folder, every=5) == (folder.checkpoint(5), [damage])
    assert checkpoints.newest_intact(folder, every=100) == (None, [])


def test_existing_checkpoint_is_not_written_again(folder, network, assert_same_weights):
    """The same step has the same state. To replace it would leave a moment without either."""
    for seed in (0, 1):
        checkpoints.save_checkpoint(folder, 4, {"generator": network(seed)}, {"seed": seed}, keep=2)
    restored = network(2)
    assert checkpoints.load_checkpoint(folder.checkpoint(4), {"generator": restored}) == {"seed": 0}
    assert_same_weights(restored, network(0))


def test_partial_checkpoint_of_a_crash_is_ignored_and_replaced(folder, network, save):
    save(3)
    partial = folder.path / "checkpoints" / ".step-000004.partial"
    partial.mkdir()
    (partial / "generator.safetensors").write_bytes(b"half")
    (folder.path / "checkpoints" / "step-000005").write_text("a file, not a folder")
    (folder.path / "checkpoints" / "step-copy").mkdir()
    assert [path.name for path in folder.checkpoints()] == ["step-000003"]
    save(4, {"step": 4})
    assert [path.name for path in folder.checkpoints()] == ["step-000003", "step-000004"]
    assert checkpoints.load_checkpoint(folder.checkpoint(4), {"generator": network(1)}) == {"step": 4}
    assert not partial.exists()


def test_checkpoint_that_fails_to_be_written_leaves_the_older_one(folder, network, save):
    save(3, {"step": 3}, keep=1)
    with pytest.raises(Exception, match="pickle"):
        save(4, {"function": lambda: 0}, keep=1)
    assert names(folder) == ["step-000003"]
    assert checkpoints.load_checkpoint(folder.checkpoint(3), {"generator": network()}) == {"step": 3}


def test_set_aside_names_intact_checkpoints_superseded_and_others_damaged(folder, save):
    for step in (3, 5, 6, 7):
        save(step, {"step": step}, keep=4)
    checkpoints.set_aside(folder, after=6)
    assert names(folder) == ["step-000003", "step-000005", "step-000006", "superseded-step-000007"]
    save(7, {"step": "new"}, keep=5)
    (folder.checkpoint(6) / "training.pt").write_bytes(b"")
    (folder.path / "checkpoints" / "step-000008").write_text("a file, not a folder")
    (folder.path / "checkpoints" / "step-copy").mkdir()
    checkpoints.set_aside(folder, after=3)
    assert names(folder) == [
        "damaged-step-000006",
        "damaged-step-000008",
        "step-000003",
        "step-copy",
        "superseded-step-000005",
        "superseded-step-000007",  # replaces the one before
    ]
    newer = torch.load(folder.path / "checkpoints" / "superseded-step-000007" / "training.pt", weights_only=True)
    assert newer == {"step": "new"}
    assert checkpoints.newest_intact(folder) == (folder.checkpoint(3), [])


def test_leftovers_of_a_killed_process_are_removed(folder, save):
    for step in (1, 2, 3, 9):
        save(step, keep=4)
    for name in (".step-000003.partial", ".step-000001.old"):
        (folder.path / "checkpoints" / name).mkdir()
    for name in (".tmpNIePoY", ".tmp.keep", ".tmpfile"):  # the first is what safetensors writes to before it renames
        (folder.path / name).touch()
    checkpoints.remove_leftovers(folder, step=3, keep=2)
    assert names(folder) == ["step-000002", "step-000003", "step-000009"]
    assert {path.name for path in folder.path.glob(".tmp*")} == {".tmp.keep", ".tmpfile"}


def test_weights_of_another_network_are_refused(folder, network, save):
    save(3)
    for other in (network(features=4), nn.Linear(2, 3), nn.Sequential(network(), nn.Linear(1, 1))):
        with pytest.raises(RequestError, match=r"generator\.safetensors: cannot be loaded"):
            checkpoints.load_checkpoint(folder.checkpoint(3), {"generator": other})


def test_mark_that_an_editor_wrote_before_the_manifest_is_passed_by(folder, save):
    save(1)
    manifest = folder.checkpoint(1) / checkpoints.MANIFEST
    manifest.write_bytes(codecs.BOM_UTF8 + manifest.read_bytes())
    assert checkpoints.newest_intact(folder) == (folder.checkpoint(1), [])
