"""`table`: rows of a CSV or Parquet file as samples, and samples as rows again."""

from __future__ import annotations

import datetime
import sys

import numpy as np
import pytest
import torch

import ganframe
from ganframe import testing
from ganframe.builtin.table import Table

pandas = pytest.importorskip("pandas", reason="needs the extra ganframe[table]")
pytest.importorskip("pyarrow", reason="needs the extra ganframe[table]")

RNG = np.random.default_rng(0)
N = 60


def people():
    """One column of each kind that is read."""
    day = pandas.Timestamp("2020-01-01")
    return pandas.DataFrame(
        {
            "age": RNG.integers(18, 90, N),
            "income": np.where(RNG.random(N) < 0.2, np.nan, RNG.lognormal(10, 1, N)),
            "town": RNG.choice(["Köln", "Bonn", "a, b"], N),
            "smokes": RNG.random(N) < 0.5,
            "flag": RNG.integers(2, size=N),
            "country": "DE",
            "job": pandas.Series(RNG.choice(["baker", None, "cook"], N)),
            "children": pandas.array(RNG.choice([0, 1, 2, 3, None], N), dtype="Int64"),
            "size": pandas.Categorical(RNG.choice(["S", "M"], N), categories=["S", "M", "L"], ordered=True),
            "born": day + pandas.to_timedelta(RNG.integers(0, 9000, N), unit="D"),
            "seen": day + pandas.to_timedelta(RNG.integers(0, 10**6, N), unit="s"),
            "zone": (day + pandas.to_timedelta(RNG.integers(0, 10**6, N), unit="s")).tz_localize("Europe/Berlin"),
            "lasted": pandas.to_timedelta(RNG.integers(0, 10**6, N), unit="s"),
            "day": [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(d)) for d in RNG.integers(0, 900, N)],
            "nothing": pandas.array([None] * N, dtype="Float64"),
        }
    )


@pytest.fixture
def saved(tmp_path):
    """saved(table, name): a file of a table."""

    def save(table, name="people.parquet"):
        file = tmp_path / name
        table.to_parquet(file) if name.endswith(".parquet") else table.to_csv(file, index=False)
        return str(file)

    return save


def test_columns_have_blocks_of_their_kinds(saved):
    dataset = Table(saved(people()), categorical=("children",))
    assert dataset.spec.columns == (
        *(1, 1, 2, 3, 2, 2),  # age, income with missing ones, town, smokes, flag; country is constant
        *(3, 5, 2, 1, 1, 1, 1, 1),  # job and children with missing ones, size, times
    )
    assert dataset.spec.shape == (26,)
    testing.check_dataset(dataset)


def test_numbers_are_standardised_by_the_training_part(saved):
    table = people()
    dataset = Table(saved(table), hold_out=0.25)
    data, held_out = dataset.build(), dataset.held_out()
    assert (len(data), len(held_out)) == (45, 15)
    ages = data.tensors[0][:, 0]
    torch.testing.assert_close(ages.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(ages.std(correction=0), torch.tensor(1.0), atol=1e-5, rtol=0)
    both = [dataset.decode(part.tensors[0])["age"].to_numpy() for part in (data, held_out)]
    assert sorted(both[0]) != sorted(table["age"])
    inside = np.clip(table["age"], both[0].min(), both[0].max())  # what lies beyond those trained on is clipped
    assert sorted(np.concatenate(both)) == sorted(inside)
    testing.check_dataset(dataset)


def test_decoded_rows_are_those_of_the_file_with_their_types(saved):
    table = people()
    dataset = Table(saved(table), categorical=("children",))
    found = dataset.decode(dataset.build().tensors[0])
    read = pandas.read_parquet(dataset.file, dtype_backend="numpy_nullable")
    assert [*found.columns] == [*table.columns]
    assert found.dtypes.to_dict() == read.dtypes.to_dict()
    for name in table.columns:
        if name in ("income", "seen", "zone", "lasted"):  # of which float32 keeps seven digits
            assert (found[name].isna() == read[name].isna()).all()
            difference = (found[name] - read[name]).abs().max()
            assert difference < (0.2 if name == "income" else pandas.Timedelta(1, "s")), name
        else:
            pandas.testing.assert_series_equal(found[name], read[name], check_exact=False, rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), [("p.csv", {}), ("p.csv.gz", {}), ("p.tsv", {"sep": "\t"})])
def test_text_files_give_the_same_rows(tmp_path, name, options):
    table = people()[["age", "income", "town", "smokes", "job", "children", "born", "country"]]
    table.to_csv(tmp_path / name, index=False, **options)
    dataset = Table(str(tmp_path / name), dates=("born",))
    found = dataset.decode(dataset.build().tensors[0])
    found.to_csv(tmp_path / "again.csv", index=False)
    again, first = (
        pandas.read_csv(tmp_path / "again.csv"),
        pandas.read_csv(tmp_path / name, sep=options.get("sep", ",")),
    )
    pandas.testing.assert_frame_equal(again, first, rtol=1e-4)
    testing.check_dataset(dataset)


@pytest.mark.parametrize("name", ["people.parquet", "people.csv"])
def test_scheme_decodes_as_the_table_does(saved, name, tmp_path):
    times = {} if name == "people.parquet" else {"dates": ("born", "seen", "zone", "day"), "leave_out": ("lasted",)}
    dataset = Table(saved(people(), name), label="town", categorical=("children",), **times)
    x, y = dataset.build().tensors
    expected, scheme = dataset.decode(x, y), dataset.scheme()
    for file in tmp_path.iterdir():
        file.unlink()
    pandas.testing.assert_frame_equal(dataset.decode(x, y, scheme), expected, check_exact=True)
    assert "town" not in dataset.decode(x, None, scheme).columns
    with pytest.raises(ValueError, match="no rows"):
        dataset.decode(x[:, 1:], y, scheme)


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["2024-02-01", "2024-03-04"], ["2024-02-01", "2024-03-04"]),
        (["2024/02/01", "2024/03/04"], ["2024-02-01", "2024-03-04"]),
        (["20240201", "20240304"], ["2024-02-01", "2024-03-04"]),
        (["2024-02-01T10:11:12", ""], ["2024-02-01", None]),
        (["01.02.2024", "13.02.2024"], ["2024-02-01", "2024-02-13"]),
        (["13.02.2024", "01.02.2024"], ["2024-02-13", "2024-02-01"]),
        (["1/2/2024", "1/31/2024"], ["2024-01-02", "2024-01-31"]),
        (["05.05.2024", "06.06.2024"], ["2024-05-05", "2024-06-06"]),
        (["Mar 4, 2024", "Apr 1, 2024"], ["2024-03-04", "2024-04-01"]),
        (["01.02.2024", "03.02.2024"], None),
        (["1/2/2024", "1/3/2024", ""], None),
    ],
)
def test_dates_are_read_in_the_one_order_that_fits_or_refused(tmp_path, texts, days):
    rows = "".join(f'"{text}",{i}.5\n' for i, text in enumerate(texts))
    (tmp_path / "a.csv").write_text("when,x\n" + rows)
    dataset = Table(str(tmp_path / "a.csv"), dates=("when",))
    if days is None:
        assert "may have the day or the month first" in refused(dataset)
    else:
        found = dataset.decode(dataset.build().tensors[0])["when"].dt.strftime("%Y-%m-%d")
        assert [None if pandas.isna(day) else day for day in found] == days


def test_label_column_is_y_and_comes_back_in_its_place(saved):
    table = people()
    dataset = Table(saved(table), label="town", leave_out=("seen",))
    assert dataset.spec.class_names == ("Bonn", "Köln", "a, b")
    x, y = dataset.build().tensors
    found = dataset.decode(x, y)
    assert [*found.columns] == [name for name in table.columns if name != "seen"]
    assert found["town"].tolist() == table["town"].tolist()
    assert "town" not in dataset.decode(x).columns
    testing.check_dataset(dataset)


def test_what_a_generator_gives_is_decoded_within_the_limits(saved):
    table = people()[["age", "income", "town", "job"]]
    dataset = Table(saved(table))
    rows = dataset.decode(10 * torch.randn(500, *dataset.spec.shape))
    assert set(rows["town"]) == set(table["town"])
    assert rows["age"].between(table["age"].min(), table["age"].max()).all()
    assert 0 < rows["income"].isna().sum() < 500
    assert rows["job"].isna().any()


def refused(dataset):
    """The message of a ValueError, of one line."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller looks at the message)
        dataset.spec, dataset.build()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_refused_in_one_line(saved, tmp_path):
    file = saved(people())
    for role in ("leave_out", "categorical", "dates"):
        assert f"{role}: {file} has no column 'agee'; did you mean 'age'?" in refused(Table(file, **{role: ("agee",)}))
    assert "label: " in refused(Table(file, label="agee"))
    assert "rows have no 'job'" in refused(Table(file, label="job"))
    assert "column 'country' has one value" in refused(Table(file, label="country"))
    assert "cannot be read as dates" in refused(Table(file, dates=("town",)))
    assert "No such file" in refused(Table(str(tmp_path / "none.csv")))
    assert "leaves one part empty" in refused(Table(file, hold_out=0.001))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    assert "cannot be read as a table" in refused(Table(str(tmp_path / "cut.parquet")))
    (tmp_path / "rowless.csv").write_text("a,b\n")
    assert "no rows" in refused(Table(str(tmp_path / "rowless.csv")))
    (tmp_path / "other.csv").write_text("a;b\n1;2\n3;4\n")
    assert 'set separator = ";"' in refused(Table(str(tmp_path / "other.csv")))
    assert Table(str(tmp_path / "other.csv"), separator=";").spec.columns == (2, 2)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n3,4,5,6\n")
    assert "cannot be read as a table" in refused(Table(str(tmp_path / "odd.csv")))
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" + b"\0" * 20)
    assert "cannot be read as a table" in refused(Table(str(tmp_path / "damaged.parquet")))
    names = pandas.DataFrame({"name": [f"n{i}" for i in range(300)], "x": RNG.normal(size=300)})
    assert "column 'name' has 300 categories" in refused(Table(saved(names, "names.csv")))
    assert Table(saved(names, "names.csv"), leave_out=("name",)).spec.columns == (1,)
    infinite = pandas.DataFrame({"x": [1.0, 2.0, np.inf]})
    assert "column 'x' has infinite values" in refused(Table(saved(infinite)))
    lists = pandas.DataFrame({"x": [[1], [2, 3]], "y": [1, 2]})
    assert "column 'x' holds mixed values" in refused(Table(saved(lists)))
    same = pandas.DataFrame({"x": [1, 1], "y": ["a", "a"]})
    assert "no column has more than one value" in refused(Table(saved(same)))
    with pytest.raises(ValueError, match="is in leave_out too"):
        Table(file, label="age", leave_out=("age",))


def test_numbers_that_are_read_as_texts_are_refused_with_the_remedy(tmp_path):
    file, heights = tmp_path / "a.csv", [f"{170 + i},{i % 10}" for i in range(40)]
    file.write_text("height;n\n" + "".join(f"{height};{i}.5\n" for i, height in enumerate(heights)))
    comma = refused(Table(str(file), separator=";"))
    assert 'numbers with commas, as 170,0: set decimal = "," where' in comma
    for cells, said in (
        (["1,234.5", "12,000", "7"], 'as 1,234.5: set decimal = "," where they stand before decimals, remove them'),
        (["12 %", "7%", "3"], "numbers with units or spaces, as 12 %; remove these"),
        (["1 234", "€ 5", "20"], "numbers with units or spaces, as 1 234"),
    ):
        file.write_text("a,b\n" + "".join(f'"{cells[i % 3]}",{i}.5\n' for i in range(30)))
        assert said in refused(Table(str(file)))
        assert Table(str(file), categorical=("a",)).spec.columns[0] == 3
    file.write_text("height;n\n" + "".join(f"{height};{i},5\n" for i, height in enumerate(heights)))
    found = _decoded(Table(str(file), separator=";", decimal=","))
    assert found["height"].tolist() == pytest.approx([float(height.replace(",", ".")) for height in heights])
    file.write_text("a,b\n" + "".join(f"{'?' if i == 17 else i % 6},{i}.5\n" for i in range(40)))
    assert "column 'a' has numbers, and '?' in row 18" in refused(Table(str(file)))
    assert "?" in set(_decoded(Table(str(file), categorical=("a",)))["a"])
    file.write_text("a,b\n" + "".join(f"{'65+' if i % 5 else i},{i}.5\n" for i in range(40)))
    assert Table(str(file)).spec.columns[0] > 2


def _decoded(dataset):
    return dataset.decode(dataset.build().tensors[0])


def test_numbers_come_back_with_the_decimals_of_the_file(tmp_path):
    file = tmp_path / "a.csv"
    numbers = np.round(RNG.normal(170, 9, 50), 1)
    file.write_text("height,weight\n" + "".join(f"{x},{x / 3}\n" for x in numbers))
    dataset = Table(str(file))
    rows = dataset.decode(torch.randn(100, 2))
    assert (rows["height"] == rows["height"].round(1)).all()
    assert rows["height"].nunique() > 20
    assert (rows["weight"] != rows["weight"].round(4)).any()
    assert str(rows["height"].iloc[0]) == f"{rows['height'].iloc[0]:.1f}"


def test_files_that_are_no_text_tables_are_refused(saved, tmp_path):
    (tmp_path / "latin.csv").write_bytes("a,b\nKöln,1\nBonn,2\n".encode("latin-1"))
    assert "save it as UTF-8" in refused(Table(str(tmp_path / "latin.csv")))
    (tmp_path / "empty.csv").write_text("")
    assert refused(Table(str(tmp_path / "empty.csv"))).endswith("empty.csv: is empty")
    assert "is a folder, not a table" in refused(Table(str(tmp_path)))
    assert "remove them" in refused(Table(saved(people()), separator=";"))


def test_column_that_numbers_the_rows_is_warned_about(saved, capsys):
    table = people().reset_index()[["index", "age"]]
    Table(saved(table)).build()
    assert "column 'index' numbers the rows" in capsys.readouterr().err


def test_changed_file_is_read_anew_and_told_by_the_fingerprint(saved):
    table = people()[["age", "town"]]
    dataset = Table(saved(table))
    first, rows = dataset.fingerprint(), len(dataset.build())
    table.loc[len(table)] = [500, "Ulm"]
    saved(table)
    assert len(dataset.build()) == rows + 1
    again = dataset.fingerprint()
    assert again.keys() == first.keys()
    assert all(again[name] != first[name] for name in first)


# ------------------------------------------------------------------------------------------------------------ training

RECIPE = """
seed = 1
[dataset]
use = "table"
file = "people.csv"
{more}
[latent]
dim = 16
[generator]
use = "mlp"
hidden = [32]
condition = "{condition}"
[discriminator]
use = "mlp"
hidden = [32]
condition = "{condition}"
[objective]
use = "non_saturating"
[[constraints]]
use = "gradient_penalty"
weight = 1.0
target = 0.0
[optimizer.generator]
lr = 2e-3
[optimizer.discriminator]
lr = 2e-3
[train]
steps = {steps}
batch_size = {batch}
ema = 0.99
[log]
checkpoint_every = {every}
samples_every = 1000
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """trained(table, steps=6, more="", condition="none"): a run in an empty folder, beside its table."""
    monkeypatch.chdir(tmp_path)

    def train(table, steps=6, more="", condition="none", name="run"):
        table.to_csv("people.csv", index=False)
        sizes = {"steps": steps, "batch": min(64, len(table)), "every": max(3, steps // 2)}
        text = RECIPE.format(more=more, condition=condition, **sizes)
        (tmp_path / "r.toml").write_text(text)
        ganframe.run(ganframe.load_recipe("r.toml"), name)
        return name

    return train


def of_many(n=2000):
    """Marginals that are known, and a number that depends on a category."""
    town = RNG.choice(["Köln", "Bonn", "Ulm"], n, p=[0.6, 0.3, 0.1])
    age = np.where(town == "Köln", 30, 60) + RNG.normal(0, 4, n)
    return pandas.DataFrame({"town": town, "age": age.round().astype(int), "smokes": RNG.random(n) < 0.25})


def test_marginals_and_dependence_are_learnt(trained, call):
    trained(of_many(), 600)
    call("sample", "run", "-n", "4000", "--out", "rows.csv")
    rows = pandas.read_csv("rows.csv")
    shares = rows["town"].value_counts(normalize=True)
    for town, share in {"Köln": 0.6, "Bonn": 0.3, "Ulm": 0.1}.items():
        assert abs(shares[town] - share) < 0.1, shares
    assert abs(rows["smokes"].mean() - 0.25) < 0.1
    assert abs(rows["age"].mean() - 42) < 5
    assert rows["age"].dtype == np.int64
    of_town = rows.groupby("town")["age"].mean()
    assert of_town["Bonn"] - of_town["Köln"] > 12, of_town


def test_rows_are_written_with_their_labels(trained, call):
    trained(people().drop(columns=["seen", "zone", "lasted", "born", "day"]), more='label = "town"', condition="concat")
    call("sample", "run", "-n", "9", "--label", "Bonn", "--out", "rows.parquet")
    rows = pandas.read_parquet("rows.parquet")
    assert rows["town"].tolist() == ["Bonn"] * 9
    assert rows["country"].tolist() == ["DE"] * 9
    call("sample", "run", "-n", "9", "--out", "rows.csv")
    assert pandas.read_csv("rows.csv").columns.tolist() == rows.columns.tolist()


def test_rows_need_no_table_with_the_scheme_that_a_run_keeps(trained, call, tmp_path):
    trained(of_many(200), more='label = "smokes"', condition="concat")
    call("sample", "run", "--out", "rows.csv")
    of_many(200).to_csv("people.csv", index=False)  # another table
    call("sample", "run", "--out", "other.csv")
    (tmp_path / "people.csv").unlink()
    call("sample", "run", "--out", "none.csv")
    assert "scheme.json has the categories" in call("publish", "run", "--to", "model").output
    call("sample", "model", "--out", "published.csv")
    rows = (tmp_path / "rows.csv").read_bytes()
    assert rows.count(b"\n") == 65
    assert rows.startswith(b"town,age,smokes\n")
    for name in ("other.csv", "none.csv", "published.csv"):
        assert (tmp_path / name).read_bytes() == rows
    for text in ("{}", "", '{"names": [], "columns": [1], "y": null}'):
        (tmp_path / "run" / "scheme.json").write_text(text)
        assert "damaged" in call("sample", "run", "--out", "no.csv", code=2).output


def test_rows_without_a_scheme_need_the_table_that_was_trained_on(trained, call, tmp_path):
    trained(of_many(200))
    (tmp_path / "run" / "scheme.json").unlink()
    call("sample", "run", "--out", "rows.csv")
    of_many(200).to_csv("people.csv", index=False)
    assert "scales of columns differ" in call("sample", "run", "--out", "rows.csv", code=2).output
    (tmp_path / "people.csv").unlink()
    assert "No such file" in call("sample", "run", "--out", "rows.csv", code=2).output
    call("sample", "run", "--out", "rows.npy")


def test_samples_that_are_no_rows_are_refused(call, tiny):
    ganframe.run(ganframe.load_recipe(tiny()), "ring")
    assert "no rows of a table" in call("sample", "ring", "--out", "rows.csv", code=2).output


def test_resumed_run_equals_the_uninterrupted_one(trained, tmp_path):
    trained(people().drop(columns=["seen", "zone", "lasted", "born", "day"]), 6, name="whole")
    trained(pandas.read_csv("people.csv"), 3, name="parts")
    ganframe.resume("parts", ["train.steps=6"])
    whole, parts = ((tmp_path / run / "generator.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


def test_missing_pandas_is_said_with_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("a\n1\n2\n")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "pip install 'ganframe[table]'" in refused(Table(str(tmp_path / "a.csv")))
