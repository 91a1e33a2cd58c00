"""log.jsonl: what is written is read back, and damaged lines are left out."""

import codecs
import json

import pytest

from ganframe.storage import log

RECORDS = [{"step": 1, "loss": 0.5, "seconds": 0.1}, {"step": 2, "loss": -3e-8, "seconds": 0.2}]


def test_records_are_read_back_as_written(folder):
    assert log.read_log(folder) == []
    for record in RECORDS:
        log.append_record(folder, record)
    assert log.read_log(folder) == RECORDS
    assert [json.loads(line) for line in folder.log.read_text().splitlines()] == RECORDS
    log.write_log(folder, RECORDS[:1])
    assert log.read_log(folder) == RECORDS[:1]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', "{", '{"step": 3', "\x00\x00\x00"])
def test_last_line_of_a_killed_process_is_left_out_and_not_reported(folder, torn):
    log.write_log(folder, RECORDS)
    with folder.log.open("a") as file:
        file.write(torn)
    assert log.read_log(folder) == RECORDS
    assert log.damaged_lines(folder) == []


@pytest.mark.parametrize("key", ["seconds", "loss", "step"])
@pytest.mark.parametrize("value", ['"x"', "[1]", "NaN", "1e999", "true", "{}", "1" + "0" * 400])
def test_line_without_finite_numbers_is_left_out_and_reported(folder, key, value):
    log.write_log(folder, RECORDS)
    last = {"step": 9, "loss": 0.5, "seconds": 0.3}
    text = ", ".join(f'"{k}": {value if k == key else json.dumps(v)}' for k, v in last.items())
    with folder.log.open("a") as file:
        file.write(f"{{{text}}}\n")
    assert log.read_log(folder) == RECORDS
    assert log.damaged_lines(folder) == [f"{folder.log}: line 3 is damaged and is left out"]


def test_mark_that_an_editor_wrote_before_the_text_is_passed_by(folder):
    log.write_log(folder, RECORDS)
    folder.log.write_bytes(codecs.BOM_UTF8 + folder.log.read_bytes())
    assert log.read_log(folder) == RECORDS
    assert log.damaged_lines(folder) == []
