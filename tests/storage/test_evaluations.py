"""evaluations.jsonl: damaged lines, and those of steps that a resumed run reaches once more."""

import json

import pytest

from ganframe.storage.evaluations import append_evaluations, keep_evaluations, read_evaluations
from ganframe.storage.run_folder import RunFolder


def score(step):
    return {"metric": "modes", "modes": 8, "protocol": {}, "judged": {"step": step}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def test_scores_are_read_as_they_were_added(folder):
    assert read_evaluations(folder) == []
    append_evaluations(folder, [score(1), score(1)])
    append_evaluations(folder, [score(2)])
    assert read_evaluations(folder) == [score(1), score(1), score(2)]


def test_a_line_that_a_killed_process_left_half_written_does_not_take_the_next_with_it(folder):
    folder.evaluations.write_text('{"metric": "mo')
    append_evaluations(folder, [score(1)])
    assert read_evaluations(folder) == [score(1)]


@pytest.mark.parametrize(
    "damage", ['{"metric": "mo', "[]", "7", "null", '{"metric": 3}', '{"metric": "modes"}', "\0\0"]
)
def test_damaged_lines_are_left_out(folder, damage):
    append_evaluations(folder, [score(1)])
    with folder.evaluations.open("a") as lines:
        lines.write(damage + "\n" + json.dumps(score(2)) + "\n" + damage)
    assert read_evaluations(folder) == [score(1), score(2)]


def test_scores_of_later_steps_are_removed(folder):
    append_evaluations(folder, [score(1), score(2), score(3)])
    assert keep_evaluations(folder, 2) == [score(1), score(2)]
    assert read_evaluations(folder) == [score(1), score(2)]


def test_no_file_is_made_where_there_was_none(folder):
    assert keep_evaluations(folder, 2) == []
    assert not folder.evaluations.exists()
