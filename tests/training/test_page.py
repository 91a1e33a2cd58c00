"""report.html is rewritten while a run goes on, and once more when it ends, however it does."""

import pytest

import ganframe

OFTEN = "[log]\nevery = 1\nsamples_every = 2\nreport_every = 2\n"


def test_page_is_rewritten_every_so_many_steps_and_at_the_end(tiny, tmp_path):
    texts = {}

    def look(state):
        file = tmp_path / "run" / "report.html"
        texts[state.step] = file.read_text() if file.exists() else None

    ganframe.run(ganframe.load_recipe(tiny(OFTEN)), tmp_path / "run", callbacks=[look])
    assert texts[1] is None
    written = [text for text in texts.values() if text is not None]
    assert all("Running: step" in text for text in written)
    assert "Finished: step 6 of 6" in (tmp_path / "run" / "report.html").read_text()
    assert "Load again" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "Stopped"), (ganframe.RunError, "Failed")])
def test_page_says_how_a_run_ended_early(tiny, tmp_path, error, state):
    def stop(at):
        if at.step == 3:
            raise error("because")

    with pytest.raises(error):
        ganframe.run(ganframe.load_recipe(tiny(OFTEN)), tmp_path / "run", callbacks=[stop])
    text = (tmp_path / "run" / "report.html").read_text()
    assert f"{state}: step 3 of 6" in text
    assert "because" in text


def test_run_writes_no_page_unless_it_is_asked_for(tiny, tmp_path):
    ganframe.run(ganframe.load_recipe(tiny()), tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists()


def test_page_that_cannot_be_written_does_not_stop_the_run(tiny, tmp_path, capsys):
    def block(state):
        (tmp_path / "run" / "report.html").mkdir(exist_ok=True)

    recipe = ganframe.load_recipe(tiny(OFTEN.replace("report_every = 2", "report_every = 4")))
    assert ganframe.run(recipe, tmp_path / "run", callbacks=[block]).log[-1]["step"] == 6
    assert "the page was not written" in capsys.readouterr().err
