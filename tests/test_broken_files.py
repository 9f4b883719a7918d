"""A corpus of broken pedigrees, genotype files and ids: each gives the error or report named here, none a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixedgen.design.frame import read_frame
from mixedgen.errors import ArgumentError, DataError, MixedgenError, PedigreeError, RelationshipError
from mixedgen.genetics.files import FORMATS, Format
from mixedgen.genetics.genotypes import Genotypes
from mixedgen.genetics.ids import reconcile, reconcile_three
from mixedgen.genetics.pedigree import Pedigree, inverse_relationship
from mixedgen.relationship.combine import epistatic
from mixedgen.relationship.dominance import dominance
from mixedgen.relationship.from_pedigree import additive
from mixedgen.relationship.genomic import genomic, markers
from mixedgen.relationship.relationship import Relationship
from mixedgen.relationship.single_step import single_step


@dataclass(frozen=True)
class Broken:
    """One broken file: its text, how it is read, and the error expected."""

    text: str
    match: str
    error: type[MixedgenError] = PedigreeError
    options: dict[str, Any] = field(default_factory=dict)
    suffix: str = "csv"


GROUPS = {"groups": ["G1", "G2"]}
GAMMA = pd.DataFrame([[0.5]], ["M"], ["M"])

PEDIGREES: dict[str, Broken] = {
    "own sire": Broken("id,sire,dam\n1,,\n2,2,1\n", "1 animals are their own parent: 2"),
    "own dam": Broken("id,sire,dam\na,,\nb,a,b\n", "1 animals are their own parent: 'b'"),
    "loop of two": Broken("id,sire,dam\n1,2,\n2,1,\n", r"1 loops.*(1 -> 2 -> 1|2 -> 1 -> 2)"),
    "loop of three": Broken(
        "id,sire,dam\na,c,\nb,a,\nc,b,\n", r"1 loops.*(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)"
    ),
    "loop through sire and dam": Broken("id,sire,dam\n1,2,\n2,,1\n", "1 loops"),
    "two loops": Broken("id,sire,dam\n1,2,\n2,1,\n3,4,\n4,3,\n", "2 loops"),
    "sire and dam": Broken("id,sire,dam\n1,,\n2,,\n3,1,2\n4,2,1\n", "2 ids are sire and dam: 1, 2"),
    "parent in both roles of one animal": Broken("id,sire,dam\n1,,\n2,1,1\n", "1 ids are sire and dam: 1"),
    "two rows, two sires": Broken("id,sire,dam\n1,,\n2,,\n3,1,\n3,2,\n", "1 ids have rows with different parents: 3"),
    "two rows, one without parents": Broken("id,sire,dam\n1,,\n3,1,\n3,,\n", "1 ids have rows with different parents"),
    "row without id": Broken("id,sire,dam\n1,,\n,1,\n", "1 rows have no id: rows 1"),
    "id zero": Broken("id,sire,dam\n0,,\n1,0,\n", "1 rows have no id: rows 0"),
    "no column of dams": Broken("id,sire,mother\n1,,\n", "no column 'dam'; it has 'id', 'sire', 'mother'"),
    "no header, two columns": Broken("1,0\n2,1\n", "2 columns and no header: a pedigree has id, sire and dam"),
    "header that is none": Broken("1,0,0\n2,1,0\n", "no column 'id', 'sire', 'dam'", options={"header": True}),
    "other separator": Broken("id;sire;dam\n1;0;0\n", "it has 'id;sire;dam'", options={"sep": ","}),
    "unknown as minus nine": Broken(
        "id,sire,dam\n1,-9,\n2,-9,\n", "1 codes look like those of unknown parents.*-9 of 2 offspring.*unknown="
    ),
    "empty file": Broken("", "cannot be read as comma-separated text"),
    "ragged rows": Broken("id,sire,dam\n1,0,0\n2,0,0,0,0\n", "cannot be read as comma-separated text"),
    "text named parquet": Broken("id,sire,dam\n1,0,0\n", "cannot be read as Parquet", suffix="parquet"),
    "text named gzip": Broken("id,sire,dam\n1,0,0\n", "cannot be read as comma-separated", suffix="csv.gz"),
    "one column twice": Broken("id,sire\n1,0\n", "one column cannot serve twice", options={"dam": "sire"}),
    "parent with a blank behind": Broken("id,sire,dam\nb1,,\nb2,b1 ,\n", "1 parents without a row are written almost"),
    "parent in another case": Broken("id,sire,dam\nBull,,\ncalf,bull,\n", "written almost like .*: 'bull'"),
    "parent with zeros before": Broken("id,sire,dam\na,,\n7x,,\nc,007x,\n", "written almost like .*: '007x'"),
    "older than its sire": Broken(
        "id,sire,dam,born\n1,,,2005\n2,1,,2003\n",
        "1 animals are not younger than a parent: 2",
        options={"dates": "born"},
    ),
    "born with its dam": Broken(
        "id,sire,dam,born\n1,,,2005-03-01\n2,,1,2005-03-01\n", "not younger than a parent: 2", options={"dates": "born"}
    ),
    "date that is none": Broken(
        "id,sire,dam,born\n1,,,2005-13-41\n",
        "1 dates are neither numbers nor like 2024-05-31",
        options={"dates": "born"},
    ),
    "date in another order": Broken(
        "id,sire,dam,born\n1,,,31.12.2005\n", "neither numbers nor like .*'31.12.2005'", options={"dates": "born"}
    ),
    "no column of dates": Broken("id,sire,dam\n1,,\n", "no column 'born'", options={"dates": "born"}),
    "unknown parent outside the groups": Broken(
        "id,sire,dam\n1,G1,G2\n2,1,\n", "1 animals have an unknown parent that belongs to no group: 2", options=GROUPS
    ),
    "parent without a row or group": Broken(
        "id,sire,dam\n1,G1,G2\n2,x,1\n", "belongs to no group: 'x'", options=GROUPS
    ),
    "group with a row": Broken(
        "id,sire,dam\nG1,,\n1,G1,G2\n", "1 names of unknown parents have a row: 'G1'", options=GROUPS
    ),
    "group named twice": Broken(
        "id,sire,dam\n1,G1,G1\n", "1 groups are named more than once: 'G1'", ArgumentError, {"groups": ["G1", "G1"]}
    ),
    "groups with metafounders": Broken(
        "id,sire,dam\n1,M,M\n", "exclude each other", ArgumentError, {"groups": ["M"], "metafounders": GAMMA}
    ),
    "metafounder missing": Broken(
        "id,sire,dam\n1,M,\n", "unknown parent that belongs to no group: 1", options={"metafounders": GAMMA}
    ),
    "Gamma not definite": Broken(
        "id,sire,dam\n1,M,M\n", "Gamma must be positive definite", RelationshipError, {"metafounders": -GAMMA}
    ),
    "Gamma too large": Broken(
        "id,sire,dam\n1,M,M\n", "diagonal of at most 2", RelationshipError, {"metafounders": 5 * GAMMA}
    ),
    "Gamma without names": Broken(
        "id,sire,dam\n1,M,M\n", "data frame Gamma with the names", ArgumentError, {"metafounders": np.eye(1)}
    ),
    "Gamma with a gap": Broken(
        "id,sire,dam\n1,M,M\n",
        "missing, infinite or not symmetric",
        RelationshipError,
        {"metafounders": np.nan * GAMMA},
    ),
    "negative selfing": Broken(
        "id,sire,dam,n\n1,,,-1\n", "1 animals have a number of selfings", options={"selfing": "n"}
    ),
    "half a selfing": Broken("id,sire,dam,n\n1,,,0.5\n", "a number of selfings", options={"selfing": "n"}),
    "selfing in words": Broken("id,sire,dam,n\n1,,,many\n", "a number of selfings", options={"selfing": "n"}),
    "two genotypes": Broken(
        "id,sire,dam,c\nr,,,x\nr,,,y\n", "1 individuals have two genotypes: 'r'", options={"clones": "c"}
    ),
    "clones of two families": Broken(
        "id,sire,dam,c\na,,,\nb,,,\nr1,a,,x\nr2,b,,x\n", "rows with different parents: 'x'", options={"clones": "c"}
    ),
    "own maternal grandsire": Broken("id,sire,mgs\n1,,1\n", "their own parent: 1", options={"mgs": "mgs"}),
    "grandsires with groups": Broken(
        "id,sire,mgs\n1,G1,G2\n", "exclude each other", ArgumentError, {"mgs": "mgs", **GROUPS}
    ),
    "everything at once": Broken(
        "id,sire,dam\n1,1,\n2,3,\n3,2,\n4,2,3\n5,,\n5,4,\n,,\n", "(?s)no id.*different parents.*own parent.*loop"
    ),
}

DOSAGES = {"dosages": True}
GENOTYPES: dict[str, Broken] = {
    "three copies": Broken("id,s1,s2\na,0,3\nb,1,2\n", "1 genotypes .*e.g. 3: 1 markers, 's2'; 1 animals, 'a'"),
    "negative copies": Broken("id,s1\na,-1\nb,1\n", "coding='-101'"),
    "two in the other coding": Broken(
        "id,s1\na,2\n", "not -1, 0, 1 or missing.*coding='012'", options={"coding": "-101"}
    ),
    "fractions": Broken("id,s1\na,0.4\nb,1\n", "dosages=True"),
    "dosage above two": Broken("id,s1\na,2.4\n", "not numbers from 0 to 2", options=DOSAGES),
    "infinite": Broken("id,s1\na,inf\n", "1 genotypes are not 0, 1, 2"),
    "letters": Broken("id,s1\na,AG\nb,GG\n", "2 genotypes .*'AG', 'GG'.*alleles must be counted first"),
    "two alleles per call": Broken("id,s1\na,0/1\nb,1/1\n", "e.g. '0/1'"),
    "missing as five": Broken("id,s1\na,5\nb,1\n", "1 genotypes are not 0, 1, 2 or missing"),
    "a column of sex": Broken("id,sex,s1\na,M,0\nb,F,1\n", "1 markers, 'sex'"),
    "a position as marker": Broken("id,s1,bp\na,0,12345\nb,1,777\n", "1 markers, 'bp'"),
    "animal twice": Broken("id,s1\na,0\na,1\n", "1 ids occur more than once: 'a'"),
    "animal without name": Broken("id,s1\na,0\n,1\n", "1 of 2 ids are missing"),
    "no such column of ids": Broken(
        "id,s1\na,0\n", "no column 'animal'; they have 'id', 's1'", options={"id": "animal"}
    ),
    "empty file": Broken("", "cannot be read as comma-separated"),
    "ragged rows": Broken("id,s1\na,0\nb,1,1,1\n", "cannot be read as comma-separated"),
    "text named parquet": Broken("id,s1\na,0\n", "cannot be read as Parquet", suffix="parquet"),
    "other separator": Broken(
        "id;s1\na;0\n", "1 animals and 0 markers. Are the columns commas apart", options={"sep": ","}
    ),
    "coding that is none": Broken("id,s1\na,0\n", "coding is '012' or '-101'", ArgumentError, {"coding": "AB"}),
}


def written(tmp_path, broken):
    path = tmp_path / f"broken.{broken.suffix}"
    path.write_text(broken.text)
    return path


@pytest.mark.parametrize("name", PEDIGREES)
def test_broken_pedigree(tmp_path, name):
    broken = PEDIGREES[name]
    if broken.suffix == "parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(broken.error, match=broken.match):
        Pedigree.read(written(tmp_path, broken), **broken.options)


@pytest.mark.parametrize("name", GENOTYPES)
def test_broken_genotypes(tmp_path, name):
    broken = GENOTYPES[name]
    if broken.suffix == "parquet":
        pytest.importorskip("pyarrow")
    error = DataError if broken.error is PedigreeError else broken.error
    with pytest.raises(error, match=broken.match):
        Genotypes.read(written(tmp_path, broken), **broken.options)


@pytest.mark.parametrize("reader", [Pedigree.read, Genotypes.read])
@pytest.mark.parametrize("name", ["absent.csv", "absent.parquet", "absent.bed"])
def test_absent_file(tmp_path, reader, name):
    with pytest.raises(FileNotFoundError, match="absent"):
        reader(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pq", ".PARQUET"])
def test_data_and_pedigrees_are_read_alike(tmp_path, suffix):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2]})
    path = tmp_path / f"table{suffix}"
    frame.to_parquet(path)
    pd.testing.assert_frame_equal(read_frame(path), frame)
    assert Pedigree.read(path).n == 3


def test_a_new_format_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, ".psv", Format("text with bars", lambda path: pd.read_csv(path, sep="|")))
    path = tmp_path / "table.psv"
    path.write_text("id|sire|dam\n1|0|0\n2|0|0\n3|1|2\n")
    assert list(read_frame(path).columns) == ["id", "sire", "dam"]
    assert Pedigree.read(path).n == 3
    path.write_text("")
    with pytest.raises(DataError, match="cannot be read as text with bars"):
        read_frame(path)


def chip(ids=("1", "2", "3"), copies=((0, 1, 2), (1, 1, 0), (2, 0, 1))):
    return Genotypes(np.array(copies), ids=list(ids))


def trio(ids=(1, 2, 3)):
    return Pedigree(pd.DataFrame({"id": list(ids), "sire": [0, 0, ids[0]], "dam": [0, 0, ids[1]]}))


OBJECTS = {
    "genotypes without ids": (lambda: Genotypes(np.zeros((2, 2))), ArgumentError, "pass ids="),
    "genotypes in one dimension": (lambda: Genotypes(np.zeros(2), ids=[1, 2]), ArgumentError, "1 dimensions"),
    "genotypes transposed": (lambda: Genotypes(np.zeros((2, 3)), ids=[1, 2, 3]), DataError, "looks transposed"),
    "too few ids": (lambda: Genotypes(np.zeros((4, 3)), ids=[1, 2]), DataError, "there are 2 ids"),
    "too few markers": (lambda: Genotypes(np.zeros((2, 3)), ids=[1, 2], markers=["x"]), DataError, "1 markers"),
    "marker twice": (
        lambda: Genotypes(np.zeros((1, 2)), ids=[1], markers=["x", "x"]),
        DataError,
        "1 markers occur more than once: 'x'",
    ),
    "genotypes that are text": (lambda: Genotypes("chip.csv"), ArgumentError, "not str"),
    "genotypes of genotypes": (lambda: Genotypes(chip()), ArgumentError, "Genotypes already"),
    "strings as genotypes": (lambda: Genotypes(np.array([["AA"]]), ids=[1]), DataError, "e.g. 'AA'"),
    "pedigree that is a list": (lambda: Pedigree([(1, 0, 0)]), ArgumentError, "not list"),
    "completely inbred parents": (
        lambda: inverse_relationship(
            Pedigree(
                pd.DataFrame({"id": [1, 2, 3], "sire": [0, 0, 1], "dam": [0, 0, 2], "n": [np.inf, np.inf, 0]}),
                selfing="n",
            )
        ),
        RelationshipError,
        "1 animals are completely inbred: 3",
    ),
    "genotyped with zeros before": (
        lambda: single_step(trio(), chip(["01", "02", "03"])),
        RelationshipError,
        "not in the pedigree: '01', '02', '03'. Some would match under another spelling .3 by zero padding: '01' ~ 1",
    ),
    "genotyped strangers": (
        lambda: single_step(trio(), chip([1, 8, 9])),
        RelationshipError,
        "2 genotyped animals are not in the pedigree: 8, 9. Add them",
    ),
    "clones on the chip": (
        lambda: single_step(trio(), chip([1, 2, 3], [(0, 1), (0, 1), (2, 1)]), blending=0.0),
        RelationshipError,
        "singular without blending",
    ),
    "no marker varies": (lambda: genomic(chip(copies=[(1,), (1,), (1,)])), DataError, "no marker varies"),
    "a marker without a call": (
        lambda: genomic(chip(copies=[(0, -9), (1, -9), (1, -9)])),
        DataError,
        "1 markers have no call",
    ),
    "a fixed marker divided by its 2pq": (
        lambda: genomic(chip(copies=[(0, 2), (1, 2), (1, 2)]), method=2),
        DataError,
        "1 markers do not vary and cannot be scaled: '2'",
    ),
    "a fixed marker divided by its SD": (
        lambda: markers(chip(copies=[(0, 2), (1, 2), (1, 2)]), scale="sd"),
        DataError,
        "1 markers do not vary",
    ),
    "frequencies of other markers": (
        lambda: genomic(chip(), p=pd.Series({"x": 0.5})),
        DataError,
        "3 markers of the frequencies are not among",
    ),
    "inverse of a singular G": (lambda: genomic(chip()).inverse, RelationshipError, "ridge= to genomic"),
    "determinant of a singular G": (lambda: genomic(chip()).logdet, RelationshipError, "blend it"),
    "epistasis of different animals": (
        lambda: epistatic(additive(trio()), dominance(trio([1, 2, 4]))),
        RelationshipError,
        "2 levels are in one of the two relationships only: 3, 4",
    ),
    "singular matrix": (
        lambda: Relationship.from_matrix(np.ones((2, 2)), "ab").inverse,
        RelationshipError,
        r"not positive definite.*from_factor.*blend\(K, w\).*bend\(K\).*drop",
    ),
    "indefinite matrix": (
        lambda: Relationship.from_matrix(np.array([[1.0, 2.0], [2.0, 1.0]]), "ab"),
        RelationshipError,
        "smallest eigenvalue -1, largest 3",
    ),
    "level asked for in another spelling": (
        lambda: additive(trio()).cross(["01"], [2]),
        RelationshipError,
        "'01'. Check",
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_broken_object(name):
    make, error, match = OBJECTS[name]
    with pytest.raises(error, match=match):
        make()


# ids of the records, ids of the relationship, the line expected in the report
MISMATCHES = {
    "numbers against text": ([7, 8], ["7", "08"], "in both: 1 ids, 1 records"),
    "text against numbers": (["7", "08"], [7, 8], "near misses: 1 by zero padding: '08' ~ 8"),
    "numbers made floats by a gap": ([7.0, None], ["7"], "data: 1 records of 1 ids, 1 without"),
    "blanks": (["a1 "], ["a1"], "near misses: 1 by blanks: 'a1 ' ~ 'a1'"),
    "zeros lost in a spreadsheet": ([7], ["007"], "near misses: 1 by zero padding: 7 ~ '007'"),
    "letter case": (["Bull"], ["BULL"], "near misses: 1 by letter case: 'Bull' ~ 'BULL'"),
    "family ids in front": (["7"], ["F1_7"], "near misses: 1 by FID_IID: '7' ~ 'F1_7'"),
    "ids doubled": (["a"], ["a_a"], "near misses: 1 by FID_IID: 'a' ~ 'a_a'"),
    "no overlap at all": (["x"], ["y"], "in both: 0 ids, 0 records"),
    "some strangers": ([1, 2, 3], [1, 2], "only in data: 1 ids: 3"),
    "levels twice": ([1], [1, 1], "twice in relationship: 1 ids: 1"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_mismatched_ids(name):
    mine, theirs, line = MISMATCHES[name]
    report = reconcile(mine, theirs)
    assert line in str(report).splitlines()
    assert not report.complete


def test_three_files_that_do_not_meet():
    text = str(reconcile_three(["01", "02"], pedigree=[1, 2, 3], genotypes=["003", "4"]))
    assert "near misses: 2 by zero padding" in text and "near misses: 1 by zero padding: '003' ~ 3" in text


def test_the_corpus_is_large():
    assert len(PEDIGREES) + len(GENOTYPES) + len(OBJECTS) + len(MISMATCHES) >= 60
