"""Pedigrees, genotypes, ids and the files they come in."""
