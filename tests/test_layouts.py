"""Files of every layout are read alike by every reader; ids stay as they are written; foreign files are named."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import mixedgen as mg
from mixedgen.cli.main import main

IDS = ["007", "7", "1E5", "100000", "90071992547409001", "90071992547409003"]
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "blanks": " "}
LAYOUTS = list(itertools.product(SEPARATORS, (True, False), ("utf-8", "utf-8-sig", "utf-16")))


def write(path, rows, names, sep, header, encoding="utf-8"):
    lines = [sep.join(map(str, row)) for row in ([names] if header else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize(("sep", "header", "encoding"), LAYOUTS)
@pytest.mark.parametrize("said", [True, False])
def test_pedigrees_of_every_layout(tmp_path, sep, header, encoding, said):
    rows = [(id, 0, 0) for id in IDS] + [("k", IDS[0], IDS[2]), ("m", IDS[1], IDS[3]), ("n", IDS[4], IDS[5])]
    path = write(tmp_path / "ped.txt", rows, ("id", "sire", "dam"), SEPARATORS[sep], header, encoding)
    options = {"sep": SEPARATORS[sep], "header": header, "encoding": encoding} if said else {}
    ped = mg.Pedigree.read(path, **options)
    assert sorted(ped.ids) == sorted([*IDS, "k", "m", "n"]) and ped.added == 0
    A = mg.additive(ped).submatrix(["k", "007", "7"]).multiply(np.eye(3))
    assert A[0].tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize(("sep", "header", "encoding"), LAYOUTS)
def test_genotypes_of_every_layout(tmp_path, sep, header, encoding):
    calls = [[0, 1, 2, 0], [1, 1, 0, 2], [2, 0, 1, 1]]
    rows = [(id, *row) for id, row in zip(IDS, calls, strict=False)]
    path = write(tmp_path / "chip.txt", rows, ("id", "s1", "s2", "s3", "s4"), SEPARATORS[sep], header, encoding)
    M = mg.Genotypes.read(path)
    assert M.ids.tolist() == IDS[:3] and M.values.tolist() == calls


@pytest.mark.parametrize("sep", SEPARATORS)
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("said", [True, False])
def test_data_of_every_layout(tmp_path, sep, decimal, said):
    if sep == "comma" and decimal == ",":
        pytest.skip("no file has both")
    rows = [("a", "1.5".replace(".", decimal), "007"), ("b", "2.25".replace(".", decimal), "7")]
    path = write(tmp_path / "data.txt", rows, ("g", "y", "id"), SEPARATORS[sep], True)
    frame = mg.read_table(path, **({"sep": SEPARATORS[sep], "decimal": decimal} if said else {}))
    assert frame["y"].tolist() == [1.5, 2.25] and frame["g"].tolist() == ["a", "b"] and frame["id"].tolist() == [7, 7]


def test_without_a_header_columns_are_numbered_or_named(tmp_path):
    path = write(tmp_path / "data.dat", [(1, 2.5), (2, 3.5)], (), " ", False)
    assert list(mg.read_table(path)) == ["V1", "V2"]
    assert mg.read_table(path, header=["id", "y"])["y"].tolist() == [2.5, 3.5]
    with pytest.raises(mg.DataError, match="names 1 columns, and the first line has 2"):
        mg.read_table(path, header=["id"])


def test_rows_with_names_as_r_writes_them(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text('"x" "y"\n"1" 2 3\n"2" 4 5\n')
    frame = mg.read_table(path)
    assert list(frame) == ["row.names", "x", "y"] and frame["y"].tolist() == [3, 5]
    path.write_text("id,sire,dam\n1,0,0,\n2,1,0,\n")
    assert mg.Pedigree.read(path).ids.tolist() == [1, 2]


def test_a_comma_of_thousands_is_asked_for(tmp_path):
    path = tmp_path / "big.txt"
    path.write_text("g\ty\na\t1,234\nb\t2,345\n")
    with pytest.raises(mg.DataError, match="say decimal"):
        mg.read_table(path)
    assert mg.read_table(path, decimal=",")["y"].tolist() == [1.234, 2.345]


def test_genotypes_as_a_word_of_digits(tmp_path):
    path = tmp_path / "snp.txt"
    path.write_text("  007 01250\n 7   20112\n")
    M = mg.Genotypes.read(path)
    assert M.ids.tolist() == ["007", "7"] and M.values.tolist() == [[0, 1, 2, -9, 0], [2, 0, 1, 1, 2]]


def test_families_of_plink(tmp_path):
    path = tmp_path / "x.fam"
    path.write_text("1 1 0 0 1 -9\n1 2 0 0 2 -9\n2 1 0 0 1 -9\n1 3 1 2 1 -9\n")
    ped = mg.Pedigree.read(path)
    assert ped.ids.tolist() == ["1_1", "1_2", "2_1", "1_3"] and ped.sire.tolist() == [-1, -1, -1, 0]
    path.write_text("1 07 0 0 1 -9\n1 2 0 0 2 -9\n2 3 07 2 1 -9\n")
    assert mg.Pedigree.read(path).ids.tolist() == ["07", "2", "3"]


FOREIGN = {
    "a.vcf": (b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n", "VCF"),
    "b.txt": (b"\x6c\x1b\x01\x00\x00", "PLINK 1 .bed"),
    "c.grm.bin": (b"\x00\x00\x80\x3f", "GCTA"),
    "d.csv": (b"PAR1xx", "Parquet"),
    "e.csv": (b"PK\x03\x04xx", "spreadsheet"),
    "f.csv": (b"a,b\n1,\x00\x01\x02\n", "binary"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("reader", [mg.read_table, mg.Pedigree.read, mg.Genotypes.read])
def test_foreign_files_are_named(tmp_path, name, reader):
    content, what = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(mg.MixedgenError, match=what):
        reader(path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("FID IID PAT MAT SEX PHENOTYPE s1_A s2_A\n1 a 0 0 1 -9 0 1\n", ".raw file"),
        ("snp,a,b\nx1,0,1\nx2,2,1\n", "transposed"),
        ("name,chr,pos,a,b\nx1,1,5,0,1\nx2,1,9,2,1\n", "transposed"),
        ("x,a,b\nrs1,0,1\nrs2,2,1\n", "transposed"),
    ],
)
def test_genotypes_that_are_none_are_named(tmp_path, text, what):
    path = tmp_path / "chip.txt"
    path.write_text(text)
    with pytest.raises(mg.DataError, match=what):
        mg.Genotypes.read(path)


def test_other_encodings_are_asked_for(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("id,sire,dam\nBör,0,0\n".encode("latin-1"))
    with pytest.raises(mg.PedigreeError, match="encoding="):
        mg.Pedigree.read(path)
    assert mg.Pedigree.read(path, encoding="latin-1").ids.tolist() == ["Bör"]


@pytest.mark.parametrize("options", [{"sep": ""}, {"decimal": "x"}, {"header": "id"}, {"encoding": "klingon"}])
def test_layouts_that_are_none(tmp_path, options):
    path = tmp_path / "x.csv"
    path.write_text("id,sire,dam\n1,0,0\n")
    for reader in (mg.read_table, mg.Pedigree.read, mg.Genotypes.read):
        with pytest.raises(mg.ArgumentError):
            reader(path, **options)


CODES = ["-9", -9, ".", "*", "--", "00", "NA", "missing", "Unknown", "-99.0"]


@pytest.mark.parametrize("code", CODES)
def test_codes_of_unknown_parents(code):
    frame = pd.DataFrame({"id": ["a", "b", "c"], "sire": [code] * 3, "dam": [0] * 3})
    with pytest.raises(mg.PedigreeError, match="unknown="):
        mg.Pedigree(frame)
    ped = mg.Pedigree(frame, unknown=[code])
    assert ped.n == 3 and np.all(ped.sire == -1)
    assert mg.Pedigree(frame, unknown=code).n == 3


def test_a_parent_that_looks_like_an_animal_is_one():
    frame = pd.DataFrame({"id": ["a", "b"], "sire": ["S-9", "S-9"], "dam": ["0", "x"]})
    assert mg.Pedigree(frame).added == 2


def test_whole_numbers_too_large_for_floats():
    with pytest.raises(mg.PedigreeError, match="beyond 2\\^53"):
        mg.Pedigree(pd.DataFrame({"id": [1.0e17, 3.0], "sire": [0, 0], "dam": [0, 0]}))
    ids = [2**63 + 1, 2**63 + 3]
    ped = mg.Pedigree(pd.DataFrame({"id": np.array(ids, dtype=np.uint64), "sire": [0, 0], "dam": [0, 0]}))
    assert [int(id) for id in ped.ids] == ids


def test_changed_columns_are_what_they_were_changed_to(tmp_path):
    path = tmp_path / "ped.csv"
    path.write_text("id,sire,dam\n007,0,0\n07,0,0\n8,007,07\n")
    frame = mg.read_table(path)
    assert set(mg.Pedigree(frame).ids) == {"007", "07", "8"}
    assert set(mg.Pedigree(frame[frame["id"] == 8].assign(sire=1, dam=2)).ids) == {"1", "2", "8"}
    assert mg.Pedigree(frame.iloc[::-1]).added == 0


CALVES = "calf,sex,dam,y\n04,M,02,4.5\n5,F,2,2.9\n6,F,02,3.9\n7,M,5,3.5\n8,M,6,5.0\n"


def test_levels_are_as_written(tmp_path):
    path = tmp_path / "calves.csv"
    path.write_text(CALVES)
    for data in (path, mg.read_table(path), mg.read_table(path).iloc[::-1]):
        fit = mg.MixedModel("y ~ sex + (1|dam)", data).solve({"dam": 1.0, "residual": 2.0})
        assert fit.ranef()["dam"].index.tolist() == ["02", "2", "5", "6"]
        fit = mg.MixedModel("y ~ 0 + C(dam)", data).fit()
        assert fit.params.round(6).tolist() == [4.2, 2.9, 3.5, 5.0]
        assert mg.MixedModel("y ~ dam", data).fit().params.index.tolist() == ["Intercept", "dam"]
        ped = pd.DataFrame({"id": ["04", "5", "6", "7", "8"], "sire": "0", "dam": ["02", "2", "02", "5", "6"]})
        links = {"A": mg.additive(mg.Pedigree(ped))}
        fit = mg.MixedModel("y ~ sex + (1|calf:A)", data, relationships=links).solve({"calf:A": 1.0, "residual": 2.0})
        assert np.isfinite(fit.ranef()["calf:A"].loc["04"]).all()
        ped["id"] = ["4", "5", "6", "7", "8"]
        with pytest.raises(mg.RelationshipError, match="'04'"):
            mg.MixedModel("y ~ sex + (1|calf:A)", data, relationships={"A": mg.additive(mg.Pedigree(ped))})


SIDES = {
    "int": lambda ids: np.array(ids, dtype=np.int64),
    "int16": lambda ids: np.array(ids, dtype=np.int16),
    "uint64": lambda ids: np.array(ids, dtype=np.uint64),
    "float": lambda ids: np.array(ids, dtype=float),
    "nullable": lambda ids: pd.array(ids, dtype="Int64"),
    "text": lambda ids: [str(id) for id in ids],
    "object": lambda ids: np.array(ids, dtype=object),
    "string": lambda ids: pd.array([str(id) for id in ids], dtype="string"),
    "categories": lambda ids: pd.Categorical([str(id) for id in ids]),
    "categories of int": lambda ids: pd.Categorical(ids),
}


@pytest.mark.parametrize("data", SIDES)
@pytest.mark.parametrize("labels", SIDES)
def test_ids_of_one_writing_meet_whatever_holds_them(data, labels):
    ids = [11, 12, 13, 14, 15, 16]
    ped = mg.Pedigree(pd.DataFrame({"id": SIDES[labels](ids), "sire": 0, "dam": 0}))
    A = mg.additive(ped)
    frame = pd.DataFrame({"id": SIDES[data](ids), "y": [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]})
    fit = mg.MixedModel("y ~ 1 + (1|id:A)", frame, relationships={"A": A}).solve({"id:A": 1.0, "residual": 1.0})
    u = fit.ranef()["id:A"]
    np.testing.assert_allclose(u.to_numpy().ravel(), (frame["y"] - 4.5) / 2, rtol=1e-12)
    again = fit.predict(frame.assign(id=SIDES[labels](ids)))
    np.testing.assert_allclose(again, fit.fittedvalues, rtol=1e-12)
    chip = mg.Genotypes(np.random.default_rng(1).integers(0, 3, (6, 9)), ids=SIDES[data](ids))
    assert mg.single_step(ped, chip).size == 6
    assert chip.select(ids=SIDES[labels](ids[:2])).n == 2


@pytest.mark.parametrize("sep", SEPARATORS)
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("said", [True, False])
def test_the_shell_reads_every_layout(tmp_path, capsys, sep, header, said):
    between, ids = SEPARATORS[sep], ["007", "7", "1E5", "11", "12", "13"]
    records = write(tmp_path / "y.txt", [(id, k * k + 0.5) for k, id in enumerate(ids)], ("id", "y"), between, header)
    rows = [(id, -9, -9) for id in ids]
    pedigree = write(tmp_path / "ped.txt", rows, ("id", "sire", "dam"), between, header)
    flags = ["--unknown", "-9", "--pedigree", str(pedigree)]
    if said:
        name = {"\t": "tab", " ": "blanks"}.get(between, between)
        answer = "yes" if header else "no"
        flags += ["--sep", name, "--pedigree-sep", name, "--pedigree-header", answer, "--encoding", "utf-8"]
    if not header:
        flags += ["--header", "id,y"]
    model = ["blup", "y ~ 1 + (1|id:A)", str(records), *flags, "--variances", "id:A=1,residual=1"]
    assert main(model) == 0
    shown = capsys.readouterr().out
    assert all(f" {id} " in shown for id in ids)
    assert main(["check", str(records), *flags]) == 0
    assert "in both: 6 ids" in capsys.readouterr().out
