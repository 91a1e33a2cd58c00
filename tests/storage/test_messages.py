"""messages.jsonl: warnings before and after there is a folder, why a run ended, and where it went on."""

import json
from pathlib import Path

import pytest

from ganframe.errors import RunError, heard_warnings, warn
from ganframe.storage.messages import Message, Messages, kept_warnings, read_messages
from ganframe.storage.run_folder import RunFolder


def test_warnings_before_there_is_a_folder_are_kept_too(folder):
    with kept_warnings() as messages:
        warn("early")
        assert read_messages(folder) == []
        messages.begin(folder)
        warn("late")
    warn("after the run")
    assert [message.text for message in read_messages(folder)] == ["early", "late"]


def test_no_file_is_written_where_nothing_was_said(folder):
    with kept_warnings() as messages:
        messages.begin(folder)
    assert not folder.messages.exists()


@pytest.mark.parametrize(
    ("error", "kind"), [(RunError("step 3: loss is nan"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_why_a_run_ended_is_kept(folder, error, kind):
    messages = Messages()
    messages.begin(folder, resumed=2)
    with pytest.raises(type(error)), messages.end_kept():
        raise error
    first, last = read_messages(folder)
    assert first == Message("resumed", "resumed at step 2", 2)
    assert last == Message(kind, str(error) or "interrupted")


def test_texts_name_files_relative_to_the_folder(folder):
    messages = Messages()
    messages.begin(folder)
    messages.add("warning", f"{folder.path}: returning to {folder.path}/checkpoints/step-000002")
    assert read_messages(folder)[0].text == "returning to checkpoints/step-000002"


@pytest.mark.parametrize("place", [".", "1", "b/1"])
def test_other_paths_that_end_as_the_folder_stay(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(Path(place))
    folder.path.mkdir(parents=True, exist_ok=True)
    messages = Messages()
    messages.begin(folder)
    messages.add("warning", f"'{place}/log.jsonl': from ../a/1/x, data/1/x and ab/1/x")
    assert read_messages(folder)[0].text == "'log.jsonl': from ../a/1/x, data/1/x and ab/1/x"


def test_a_line_that_a_killed_process_left_half_written_does_not_take_the_next_with_it(folder):
    folder.messages.write_text('{"kind": "warn')
    messages = Messages()
    messages.begin(folder, resumed=5)
    messages.add("warning", "a")
    assert [message.text for message in read_messages(folder)] == ["resumed at step 5", "a"]


@pytest.mark.parametrize(
    "line",
    ['{"kind": "warning", "te', "[]", "null", '{"kind": "other", "text": "a"}', '{"kind": "warning", "text": 3}'],
)
def test_damaged_lines_are_left_out(folder, line):
    sound = json.dumps({"kind": "warning", "text": "a"})
    folder.messages.write_text(f"{sound}\n{line}\n{sound}\n")
    assert len(read_messages(folder)) == 2


def test_listeners_hear_warnings_only_inside(capsys):
    heard = []
    with heard_warnings(heard.append):
        warn("a")
    warn("b")
    assert heard == ["a"]
    assert capsys.readouterr().err == "warning: a\nwarning: b\n"
