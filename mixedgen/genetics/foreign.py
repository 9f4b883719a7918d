"""Files that are no tables of text, named for what they are."""

from __future__ import annotations

from pathlib import Path

from mixedgen.genetics.layout import first_bytes

# how files begin, what they are, and what to do
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"##fileformat=VCF", "a VCF file: convert it with plink2 --vcf FILE --make-bed, and read the .bed"),
    (b"BCF", "a BCF file: convert it with plink2 --bcf FILE --make-bed, and read the .bed"),
    (b"\x6c\x1b", "a PLINK 1 .bed file: read it with Genotypes.read, under the suffix .bed"),
    (b"PAR1", "a Parquet file: give it the suffix .parquet"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet (.xlsx): save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls): save it as CSV"),
    (b"\x1f\x8b", "compressed by gzip: give it the suffix .gz"),
    (b"RDX", "an R workspace (.RData): write the table with write.csv"),
    (b"X\n", "an R object (.rds): write the table with write.csv"),
    (b"\x89HDF", "an HDF5 file: write the table as CSV or Parquet"),
    (b"ARROW1", "an Arrow file: write the table as Parquet"),
)
_SUFFIXES = {
    ".grm.bin": "a relationship matrix of GCTA, not a table: read its numbers with numpy (float32, lower triangle by "
    "rows) and its ids from .grm.id, and pass Relationship.from_matrix",
    ".grm.n.bin": "the numbers of markers of a GCTA relationship matrix, not a table",
    ".pgen": "a PLINK 2 file: convert it with plink2 --pfile NAME --make-bed, and read the .bed",
    ".bgen": "a BGEN file: convert it with plink2 --bgen FILE --make-bed, and read the .bed",
    ".bcf": "a BCF file: convert it with plink2 --bcf FILE --make-bed, and read the .bed",
}
_VCF = ("#CHROM", "POS", "ID", "REF", "ALT")


def foreign_name(path: str | Path) -> str | None:
    """What a file is that is no table of text, and what to do with it; None for a table."""
    lower = Path(path).name.lower()
    start = first_bytes(path, 4096)
    for suffix, name in _SUFFIXES.items():
        if lower.endswith(suffix):
            return name
    for beginning, name in _BEGINNINGS:
        if start.startswith(beginning):
            return name
    words = start.partition(b"\n")[0].decode("latin-1").split()
    if tuple(words[: len(_VCF)]) == _VCF:
        return _BEGINNINGS[0][1]
    if b"\0" in start and start[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        return "a binary file, not a table of text"
    return None
