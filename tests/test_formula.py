"""The grammar: what each way of writing means, and what is refused with a message that names the offender."""

import time
import timeit
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from formulaic import Formula

from mixedgen.design.tags import tags
from mixedgen.errors import FormulaError, MixedgenError, RelationshipError
from mixedgen.formula.parse import parse
from mixedgen.formula.parts import Column, Factor, Mates, Members, MultiMembership, ResidualTerm
from mixedgen.formula.structures import parse_residual
from mixedgen.formula.summands import model_spec

# A formula is parsed in every `lmm`, `update` and bootstrap: beside formulaic's own time for a fixed part, measured 2.
MOST_OF_FORMULAIC = 6.0

TAGS = tags()


def blocks(formula, **names):
    """(effects, label) of each block."""
    return [(term.effects, term.label) for term in parse(formula, TAGS, **names).terms]


# Fixed part


@pytest.mark.parametrize(
    ("rhs", "fixed"),
    [
        ("1", "1"),
        ("0", "0"),
        ("-1", "0"),
        ("x", "1 + x"),
        ("+ x", "1 + x"),
        ("1 + x", "1 + x"),
        ("x + 1", "1 + x"),
        ("0 + x", "0 + x"),
        ("x + 0", "0 + x"),
        ("-1 + x", "0 + x"),
        ("x - 1", "0 + x"),
        ("x + -1", "0 + x"),
        ("x - 0", "1 + x"),
        ("0 + x + 1", "1 + x"),
        ("1 + x - 1", "0 + x"),
        ("(0 + x)", "0 + x"),
        ("a*b", "1 + a * b"),
        ("a:b", "1 + a:b"),
        ("a/b", "1 + a/b"),
        ("(a + b)^2", "1 + (a + b)^2"),
        ("(a + b)**2 - a:b", "1 + (a + b)**2 - a:b"),
        ("b %in% a", "1 + b %in% a"),
        ("log(x+1)", "1 + log(x + 1)"),
        ("C(diet, contr.treatment('b'))", "1 + C(diet, contr.treatment('b'))"),
        ("C(x, levels=['a|b', 'c^d'])", "1 + C(x, levels=['a|b', 'c^d'])"),
        ("I(x**2)", "1 + I(x ** 2)"),
        ("I(x^2)", "1 + I(x ** 2)"),
        ("log(I(x^2 + 1))", "1 + log(I(x ** 2 + 1))"),
        ("{x^2}", "1 + {x ** 2}"),
        ("poly(x, 2, raw=TRUE)", "1 + poly(x, 2, raw=True)"),
        ("factor(x) + as.factor(z)", "1 + C(x) + C(z)"),
        ("cs(x) + poly(x, 2)", "1 + cs(x) + poly(x, 2)"),
        ("{x | z}", "1 + {x | z}"),
        ("`my col` + `x`", "1 + `my col` + x"),
        ("log(`my col`)", "1 + log(`my col`)"),
        ("a.b", "1 + a.b"),
        ("(1|g)", "1"),
        ("0 + (1|g)", "0"),
        ("(1|g) + x - 1", "0 + x"),
        ("a + (1|g) + b", "1 + a + b"),
        ("(a + (1|g)) + b", "1 + a + b"),
    ],
)
def test_fixed_part_states_its_intercept(rhs, fixed):
    parsed = parse(f"y ~ {rhs}", TAGS)
    assert parsed.fixed == fixed
    assert parsed.source == f"y ~ {rhs}"


@pytest.mark.parametrize(
    ("rhs", "terms"),
    [
        ("1", ["1"]),
        ("0", []),
        ("1 + x", ["1", "x"]),
        ("0 + a * b", ["a", "b", "a:b"]),
        ("1 + `my col`:x", ["1", "my col:x"]),
    ],
)
def test_model_spec_is_formulaics_formula(rhs, terms):
    assert [str(term) for term in model_spec(rhs)] == terms


def test_model_spec_codes_the_columns_it_is_told_to():
    spec = model_spec("1 + sex * `my col` + log(x) + C(sex)", {"sex": "sum", "my col": "helmert", "x": "poly"})
    expected = ["1", "C(sex, contr.sum)", "C(`my col`, contr.helmert)", "log(x)", "C(sex)"]
    assert [str(term) for term in spec][:-1] == expected
    with pytest.raises(FormulaError, match=r"'effects' of column 'sex'.*treatment"):
        model_spec("1 + sex", {"sex": "effects"})


@pytest.mark.parametrize("rhs", ["1 + (x | z", "1 + x | z", "y ~ x", "~ x", "1 +", "x z", "2 + x", "f(x,,z)"])
def test_model_spec_refuses(rhs):
    with pytest.raises(FormulaError) as caught:
        model_spec(rhs)
    assert rhs in str(caught.value)


# Responses and offsets


@pytest.mark.parametrize(
    ("lhs", "responses"),
    [
        ("y", ("y",)),
        ("log( y)", ("log(y)",)),
        ("{y/2}", ("{y / 2}",)),
        ("`my y`", ("`my y`",)),
        ("cbind(milk, fat)", ("milk", "fat")),
        ("cbind (log(milk), `my fat`)", ("log(milk)", "`my fat`")),
        ("cbind(milk)", ("milk",)),
    ],
)
def test_responses(lhs, responses):
    assert parse(f"{lhs} ~ x", TAGS).responses == responses


def test_offsets_leave_the_fixed_part():
    parsed = parse("y ~ offset(x) + sex + offset(log( z + 1 )) + (1|g) + offset( 2*x+z ) + offset(`my col`)", TAGS)
    assert parsed.offsets == ("x", "log(z + 1)", "{2 * x + z}", "`my col`")
    assert parsed.fixed == "1 + sex"


# Random terms as lme4 reads them


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("(1|g)", [("1", "g")]),
        ("((1|g))", [("1", "g")]),
        ("(x|g)", [("1 + x", "g")]),
        ("(1 + x|g)", [("1 + x", "g")]),
        ("(0 + x|g)", [("0 + x", "g")]),
        ("(x - 1|g)", [("0 + x", "g")]),
        ("(-1 + x|g)", [("0 + x", "g")]),
        ("(x + z|g)", [("1 + x + z", "g")]),
        ("(x*z|g)", [("1 + x * z", "g")]),
        ("(0 + f:x|g)", [("0 + f:x", "g")]),
        ("(poly(x, 2)|g)", [("1 + poly(x, 2)", "g")]),
        ("(`my col`|`my g`)", [("1 + `my col`", "my g")]),
        ("(1||g)", [("1", "g")]),
        ("(x||g)", [("1", "g"), ("0 + x", "g")]),
        ("(0 + x||g)", [("0 + x", "g")]),
        ("(f - 1||g)", [("0 + f", "g")]),
        ("(x + z||g)", [("1", "g"), ("0 + x", "g"), ("0 + z", "g")]),
        ("(a*b||g)", [("1", "g"), ("0 + a", "g"), ("0 + b", "g"), ("0 + a:b", "g")]),
        ("(a:b + z||g)", [("1", "g"), ("0 + z", "g"), ("0 + a:b", "g")]),
        ("(`my col` + log(x)||g)", [("1", "g"), ("0 + `my col`", "g"), ("0 + log(x)", "g")]),
        ("({x + 1}||g)", [("1", "g"), ("0 + {x + 1}", "g")]),
        ("(x||a/b)", [("1", "b:a"), ("1", "a"), ("0 + x", "b:a"), ("0 + x", "a")]),
        ("(1|a:b)", [("1", "a:b")]),
        ("(1|b:a)", [("1", "b:a")]),
        ("(1|a/b)", [("1", "b:a"), ("1", "a")]),
        ("(1|a/b/c)", [("1", "c:b:a"), ("1", "b:a"), ("1", "a")]),
        ("(1|(a/b)/c)", [("1", "c:b:a"), ("1", "b:a"), ("1", "a")]),
        ("(1|a/(b/c))", [("1", "c:b:a"), ("1", "b:a"), ("1", "a")]),
        ("(x|(a/b)/c)", [("1 + x", "c:b:a"), ("1 + x", "b:a"), ("1 + x", "a")]),
        ("(1|a/b:c)", [("1", "c:b:a"), ("1", "a")]),
        ("(1|a/(b + c))", [("1", "c:a"), ("1", "b:a"), ("1", "a")]),
        ("(1|a/(b*c))", [("1", "c:b:a"), ("1", "c:a"), ("1", "b:a"), ("1", "a")]),
        ("(1|a + b)", [("1", "a"), ("1", "b")]),
        ("(1|a*b)", [("1", "a"), ("1", "b"), ("1", "a:b")]),
        ("(1|(a + b):c)", [("1", "a:c"), ("1", "b:c")]),
        ("(1|a + b:a)", [("1", "a"), ("1", "a:b")]),
        ("(1|a*b*c)", [("1", label) for label in ("a", "b", "c", "a:b", "a:c", "b:c", "a:b:c")]),
        ("(a + b|f + g + h*i)", [("1 + a + b", label) for label in ("f", "g", "h", "i", "h:i")]),
        ("(1|S) + (Days|S)", [("1", "S"), ("1 + Days", "S")]),
        ("(1|g) + (0 + x|g)", [("1", "g"), ("0 + x", "g")]),
        ("((1|g) + (x|h))", [("1", "g"), ("1 + x", "h")]),
        ("us(x|a/b)", [("1 + x", "b:a"), ("1 + x", "a")]),
        ("us(leg(age,2)|g)", [("0 + leg(age, 2)", "g")]),
        ("us(0 + leg(age,2)|g)", [("0 + leg(age, 2)", "g")]),
        ("(sex:leg(age, 2)|g)", [("0 + sex:leg(age, 2)", "g")]),
        ("(leg(age, 2)||g)", [("0 + leg(age, 2)", "g")]),
    ],
)
def test_random_terms_follow_lme4(term, expected):
    assert blocks(f"y ~ {term}") == expected


def test_nested_factors_stand_in_the_order_of_the_label():
    nested, outer = parse("y ~ (1|batch/cask)", TAGS).terms
    assert nested.factors == (Factor(Column("cask")), Factor(Column("batch")))
    assert outer.factors == (Factor(Column("batch")),)


def test_source_of_a_term_is_as_written_but_for_white_space():
    first, second = parse("y ~ ( Days||Subject ) ", TAGS).terms
    assert first.source == second.source == "(Days||Subject)"
    assert parse("y ~ diag (0+site | g,hom = True)", TAGS).terms[0].source == "diag(0 + site|g, hom=True)"


# Structures


@pytest.mark.parametrize(
    ("term", "structure", "options"),
    [
        ("(x|g)", "us", ()),
        ("us(x|g)", "us", ()),
        ("us (x|g)", "us", ()),
        ("diag(x|g)", "diag", (("hom", False),)),
        ("diag(x|g, hom=True)", "diag", (("hom", True),)),
        ("cs(x|g)", "cs", (("hom", False),)),
        ("cs(x|g, hom=False)", "cs", (("hom", False),)),
        ("ar1(0 + t|g)", "ar1", (("hom", True),)),
        ("ar1(0 + t|g, hom=False)", "ar1", (("hom", False),)),
        ("corh(x|g)", "corh", ()),
        ("toep(x|g)", "toep", ()),
        ("idv(x|g)", "idv", ()),
        ("fa(x|g)", "fa", (("k", 1),)),
        ("fa(x|g, k=2)", "fa", (("k", 2),)),
        ("rr(x|g, k=3)", "rr", (("k", 3),)),
    ],
)
def test_structures_and_their_defaults(term, structure, options):
    (parsed,) = parse(f"y ~ {term}", TAGS).terms
    assert (parsed.structure, parsed.options) == (structure, options)


def test_a_tag_is_one_only_around_a_bar():
    parsed = parse("y ~ cs(x) + cs(0 + f|g)", TAGS)
    assert parsed.fixed == "1 + cs(x)"
    assert [term.structure for term in parsed.terms] == ["cs"]


# Links, members, multiple membership


@pytest.mark.parametrize(
    ("group", "label", "factors"),
    [
        ("animal:A", "animal:A", (Factor(Column("animal"), "A"),)),
        ("site:animal:A", "site:animal:A", (Factor(Column("site")), Factor(Column("animal"), "A"))),
        ("animal : A : site", "animal:A:site", (Factor(Column("animal"), "A"), Factor(Column("site")))),
        ("female:A:male:B", "female:A:male:B", (Factor(Column("female"), "A"), Factor(Column("male"), "B"))),
        ("`my id`:A", "my id:A", (Factor(Column("my id"), "A"),)),
        ("members(animal,dam):A", "members(animal, dam):A", (Factor(Members((Column("animal"), Column("dam"))), "A"),)),
        (
            "members(animal, mates(animal,pen)):A",
            "members(animal, mates(animal, pen)):A",
            (Factor(Members((Column("animal"), Mates("animal", "pen"))), "A"),),
        ),
        ("mm(g1,g2):A", "mm(g1, g2):A", (Factor(MultiMembership(("g1", "g2"), ()), "A"),)),
        ("mm(g1, g2, weights=w)", "mm(g1, g2, weights=w)", (Factor(MultiMembership(("g1", "g2"), ("w",))),)),
        (
            "mm(g1, g2, weights=(w1,w2))",
            "mm(g1, g2, weights=(w1, w2))",
            (Factor(MultiMembership(("g1", "g2"), ("w1", "w2"))),),
        ),
    ],
)
def test_grouping(group, label, factors):
    keys = [key for key in "AB" if f":{key}" in group.replace(" ", "")]
    (term,) = parse(f"y ~ us(1|{group})", TAGS, relationships=keys).terms
    assert (term.label, term.factors) == (label, factors)


def test_links_under_plus_and_star():
    assert blocks("y ~ (1|herd + animal:A)", relationships=["A"]) == [("1", "herd"), ("1", "animal:A")]
    expected = [("1", "site"), ("1", "animal:A"), ("1", "site:animal:A")]
    assert blocks("y ~ (1|site*animal:A)", relationships=["A"]) == expected


def test_a_name_is_a_link_only_behind_a_factor():
    names = {"relationships": ["A"], "columns": ["y", "animal", "A", "b"]}
    with pytest.raises(FormulaError, match="both a relationship and a column"):
        parse("y ~ (1|animal:A)", TAGS, **names)
    with pytest.raises(RelationshipError, match="'A'"):
        parse("y ~ A + (A|A:b)", TAGS, **names)


def test_animal_and_permanent_environment_are_two_terms():
    assert blocks("y ~ (1|cow:A) + (1|cow)", relationships={"A": None}) == [("1", "cow:A"), ("1", "cow")]


# Residual


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("diag(site)", [ResidualTerm("diag", (("hom", False),), "site")]),
        ("us(trait|unit)", [ResidualTerm("us", (), "trait", "unit")]),
        ("ar1( time | subject )", [ResidualTerm("ar1", (("hom", True),), "time", "subject")]),
        ("cs(slot|pen, hom=True)", [ResidualTerm("cs", (("hom", True),), "slot", "pen")]),
        ("cs (slot|`my pen`)", [ResidualTerm("cs", (("hom", False),), "slot", "my pen")]),
        ("fa(trait|unit, k=2)", [ResidualTerm("fa", (("k", 2),), "trait", "unit")]),
        (
            "ar1(row):ar1(col)",
            [ResidualTerm("ar1", (("hom", True),), "row"), ResidualTerm("ar1", (("hom", True),), "col")],
        ),
        ("exp(x)", [ResidualTerm("exp", (), "x")]),
    ],
)
def test_residual(text, expected):
    assert parse_residual(text, TAGS) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "missing"),
        ("site", "'site'"),
        ("foo(x)", "'foo(x)'"),
        ("rr(trait|unit)", "rr(trait|unit)"),
        ("diag()", "diag()"),
        ("diag(site):", "missing"),
        ("diag(site) + us(t|u)", "diag(site) + us(t|u)"),
        ("us(a|b|c)", "us(a|b|c)"),
        ("us(a||b)", "us(a||b)"),
        ("us(a + b|c)", "us(a + b|c)"),
        ("us(C(a)|b)", "us(C(a)|b)"),
        ("exp(x|g)", "exp(x|g)"),
        ("us(t|u, hom=True)", "hom=True"),
        ("cs(t|u, homo=True)", "homo=True"),
        ("cs(t|u, hom=1)", "hom is True or False"),
        ("us(t|u", "not closed"),
    ],
)
def test_residual_refuses(text, named):
    with pytest.raises(FormulaError) as caught:
        parse_residual(text, TAGS)
    assert named in str(caught.value)


# What is refused, and the words of the message that name the offender or the way out


@pytest.mark.parametrize(
    ("formula", "named"),
    [
        # sides
        ("", "'~' is missing"),
        ("y", "'~' is missing"),
        ("~ x", "response is missing"),
        ("y ~", "y ~ 1"),
        ("y ~ x ~ z", "one '~'"),
        ("milk + fat ~ x", "cbind(milk, fat)"),
        ("log(milk) + fat ~ x", "cbind(log(milk), fat)"),
        ("milk, fat ~ x", "cbind(milk, fat)"),
        ("y / 2 ~ x", "{y / 2}"),
        ("1 ~ x", "a response is a column"),
        ("(1|g) ~ x", "a response is a column"),
        ("cbind() ~ x", "cbind() names no trait"),
        ("cbind(a, a) ~ x", "twice"),
        ("cbind(a, ) ~ x", "a response is a column"),
        # text
        ("y ~ (1|g", "'(' is opened but not closed"),
        ("y ~ log(x + (1|g)", "'(' is opened but not closed"),
        ("y ~ x)", "')' closes nothing"),
        ("y ~ (x]", "']' closes nothing"),
        ("y ~ [x]", "square brackets"),
        ("y ~ log('a)", "opened but not closed"),
        ("y ~ f(r'a|b')", "token `r`"),
        ("y ~ (1|f(:T'/h('))", "(1|f("),
        ("y ~ f(x,,z)", "f(x,,z)"),
        ("y ~ .", "'.' (all other columns)"),
        ("y ~ x +", "a term is missing"),
        ("y ~ x + ()", "a term is missing"),
        ("y ~ x z", "`x` and `z`"),
        ("y ~ x*", "`*`"),
        ("y ~ 2 + x", "Numeric literals"),
        ("y ~ x < z", "'<'"),
        ("y ~ (x - 1):z", "outside parentheses"),
        ("y ~ (1 + x)*z", "outside parentheses"),
        # bars
        ("y ~ 1|g", "in parentheses"),
        ("y ~ x + 1||g", "in parentheses"),
        ("y ~ (|g)", "effects are missing"),
        ("y ~ (1|)", "group is missing"),
        ("y ~ (0|g)", "no effect"),
        ("y ~ (x - x - 1|g)", "no effect"),
        ("y ~ (1|g|h)", "one bar"),
        ("y ~ ((1|g)|h)", "one bar"),
        ("y ~ (1|(x|g))", "one bar"),
        ("y ~ x - (1|g)", "'-'"),
        ("y ~ -(1|g)", "'-'"),
        ("y ~ x - (z + (1|g))", "'-'"),
        ("y ~ x*(1|g)", "'*'"),
        ("y ~ x:(1|g)", "':'"),
        ("y ~ x/(1|g)", "'/'"),
        ("y ~ (1|g)^2", "'^'"),
        ("y ~ (1|g)**2", "'**'"),
        ("y ~ x %in% (1|g)", "'%in%'"),
        ("y ~ (z + (1|g))*x", "'*'"),
        ("y ~ us(1|g):x", "':'"),
        ("y ~ Days (Days|S)", "'+' forgotten"),
        ("y ~ 1 (Days|S)", "'+' is missing"),
        ("y ~ (1|g) + (1|g)", "twice"),
        ("y ~ (1|a:b) + (1|b:a)", "twice"),
        ("y ~ (1|a/b) + (1|a)", "(1|a/b)"),
        ("y ~ (x z|g)", "`x` and `z`"),
        ("y ~ (2|g)", "Numeric literals"),
        # structures
        ("y ~ ou(x|g)", "'ou(...|...)'"),
        ("y ~ log(x|z)", "'log(...|...)'"),
        ("y ~ log((1|g))", "'log(...|...)'"),
        ("y ~ us((1|g))", "directly inside"),
        ("y ~ diag(x||g)", "diag()"),
        ("y ~ us(x|g, hom=True)", "'hom=True' in us(): it takes no argument"),
        ("y ~ diag(x|g, homo=True)", "'homo=True' in diag(): it takes 'hom'"),
        ("y ~ diag(x|g, True)", "'True' in diag(): it takes 'hom'"),
        ("y ~ diag(x|g, hom=TRUE)", "'hom=TRUE' in diag(): hom is True or False"),
        ("y ~ diag(x|g, hom=1)", "hom is True or False"),
        ("y ~ diag(x|g, hom=a == b)", "hom is True or False"),
        ("y ~ fa(x|g, k=True)", "k is a positive integer"),
        ("y ~ fa(x|g, k=0)", "k is a positive integer"),
        ("y ~ fa(x|g, k=-1)", "k is a positive integer"),
        ("y ~ rr(x|g, k=1.5)", "k is a positive integer"),
        ("y ~ fa(x|g, k=1, k=2)", "'k=2'"),
        ("y ~ us(1|g, )", "it takes no argument"),
        ("y ~ us(1 + leg(age, 2)|g)", "leg()"),
        # offsets
        ("y ~ -offset(x)", "offset()"),
        ("y ~ z:offset(x)", "offset()"),
        ("y ~ offset()", "one expression"),
        ("y ~ offset(x, z)", "one expression"),
        ("y ~ (offset(x)|g)", "no place in a random term"),
        # groups
        ("y ~ (1|C(g))", "'C(g)' is no grouping column: make the column first"),
        ("y ~ (1|factor(g))", "'factor(g)'"),
        ("y ~ (1|1)", "'1'"),
        ("y ~ (1|'g')", "is no grouping column"),
        ("y ~ (1|a^2)", "'^'"),
        ("y ~ (1|a - b)", "'-'"),
        ("y ~ (1|a %in% b)", "'%in%'"),
        ("y ~ (1|a b)", "operator is missing"),
        ("y ~ (1|a:)", "grouping column is missing"),
        ("y ~ (1|+ b)", "grouping column is missing"),
        ("y ~ (1|a + ())", "grouping column is missing"),
        ("y ~ (1|a/b/(c + d))", "nested"),
        ("y ~ (1|mates(animal, pen))", "write members(mates(animal, pen))"),
        ("y ~ (1|members())", "members()"),
        ("y ~ (1|members(a, a))", "members(a, a)"),
        ("y ~ (1|members(a, f(b)))", "members(a, f(b))"),
        ("y ~ (1|members(a, mates(b)))", "mates(column, unit)"),
        ("y ~ (1|mm(a))", "mm(a)"),
        ("y ~ (1|mm(a, C(b)))", "mm(a, C(b))"),
        ("y ~ (1|mm(a, b, weights=1))", "weights=1"),
        ("y ~ (1|mm(a, b, weights=(u, v, w)))", "weights=(u, v, w)"),
        ("y ~ (1|mm(a, b, w=w))", "w=w"),
    ],
)
def test_refused(formula, named):
    with pytest.raises(FormulaError) as caught:
        parse(formula, TAGS)
    assert named in str(caught.value)
    assert caught.value.formula == formula


@pytest.mark.parametrize(
    ("formula", "named"),
    [
        ("y ~ (1|A)", "(1|column:A)"),
        ("y ~ (1|animal*A)", "(1|column:A)"),
        ("y ~ (1|herd/animal:A)", "(1|herd) + (1|animal:A), or (1|herd:animal:A)"),
        ("y ~ (x|animal:A/herd)", "(x|animal:A) + (x|herd)"),
        ("y ~ (1|animal:A:B)", "(1|animal:A) + (1|animal:B)"),
        ("y ~ (1|(animal + dam):A)", "'A' follows one factor"),
        ("y ~ (1|animal:D)", "'D' is neither a relationship (keys: 'A', 'B') nor a column"),
        ("y ~ (1|herd:D:animal:A)", "'D' is neither"),
    ],
)
def test_links_refused(formula, named):
    with pytest.raises(FormulaError) as caught:
        parse(formula, TAGS, relationships=["A", "B"], columns=["y", "x", "animal", "dam", "herd"])
    assert named in str(caught.value)


def test_unused_relationships_raise_by_name():
    with pytest.raises(RelationshipError, match="'D', 'G'") as caught:
        parse("y ~ (1|animal:A)", TAGS, relationships=["A", "G", "D"])
    assert caught.value.relationships == ["D", "G"]


@pytest.mark.parametrize(
    ("formula", "column"),
    [("y ~ log(x + (1|g)", 7), ("y ~ x +\n (1|g))", 14), ("y ~ x*(1|g)", 5), ("y ~ (1|a) + us(1|C(g))", 17)],
)
def test_the_caret_stands_under_the_place(formula, column):
    with pytest.raises(FormulaError) as caught:
        parse(formula, TAGS)
    *_, line, caret = str(caught.value).splitlines()
    assert line.strip().startswith("y ~")
    assert caret.index("^") - 2 == caught.value.position == column


def test_messages_are_plain_text():
    with pytest.raises(MixedgenError) as caught:
        parse("y ~ x z", TAGS)
    assert "\x1b" not in str(caught.value)


def test_parsed_formulas_are_frozen_and_hashable():
    parsed = parse("y ~ x + (x|g)", TAGS)
    assert hash(parsed) == hash(parse("y ~ x + (x|g)", TAGS))
    with pytest.raises(FrozenInstanceError):
        parsed.fixed = "1"


# Models of the literature: all of them are read, with these labels

MODELS = [
    ("Reaction ~ Days + (Days | Subject)", "", ["Subject"]),
    ("Reaction ~ 1 + Days + (0+Days|Subject)", "", ["Subject"]),
    ("Reaction ~ Days + (Days || Subject)", "", ["Subject", "Subject"]),
    ("Yield ~ 1 + (1 | Batch)", "", ["Batch"]),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", "", ["plate", "sample"]),
    ("strength ~ 1 + (1 | batch/cask)", "", ["cask:batch", "batch"]),
    ("score ~ Machine + (0 + Machine | Worker)", "", ["Worker"]),
    ("score ~ Machine + (1 | Worker/Machine)", "", ["Machine:Worker", "Worker"]),
    ("logDens ~ sample * dilut + (1 | Block) + (1 | Block:sample)", "", ["Block", "Block:sample"]),
    (
        "height ~ 1 + (1 | loc/block) + (1 | family/loc/block)",
        "",
        ["block:loc", "loc", "block:loc:family", "loc:family", "family"],
    ),
    ("yield_ ~ -1 + gen + rep + (1 | rep:rowf) + (1 | rep:colf)", "", ["rep:rowf", "rep:colf"]),
    ("endog ~ 0+x1+x2+(0+z1+z2|groups)", "", ["groups"]),
    ("y ~ 1 + service*dept + (1|s) + (1|d)", "", ["s", "d"]),
    ("wwg ~ 0 + sex + (1|calf:A)", "A", ["calf:A"]),
    ("fy ~ 0 + parity + hys2 + hys4 + (1|cow:A) + (1|cow)", "A", ["cow:A", "cow"]),
    ("cbind(wwg, pwg) ~ 0 + sex + (1|calf:A)", "A", ["calf:A"]),
    ("y ~ 0 + h1 + us(0 + trait|cow:A)", "A", ["cow:A"]),
    ("bw ~ 0 + pen + us(1|members(calf, dam):A) + (1|dam)", "A", ["members(calf, dam):A", "dam"]),
    ("bw ~ 0 + pen + (1|calf:A) + (1|dam:A) + (1|dam)", "A", ["calf:A", "dam:A", "dam"]),
    (
        "gr ~ 0 + sex + us(1|members(animal, mates(animal, pen)):A) + (1|pen) + (1|litter)",
        "A",
        ["members(animal, mates(animal, pen)):A", "pen", "litter"],
    ),
    ("tdy ~ 0 + htd1 + us(0 + leg0 + leg1|cow:A) + us(0 + leg0 + leg1|cow)", "A", ["cow:A", "cow"]),
    ("fat_dyd ~ 1 + (1|bull:A) + (1|bull:M)", "AM", ["bull:A", "bull:M"]),
    ("ww ~ 0 + pen + f + (1|pig:G) + (1|pig:D) + (1|pig:E)", "GDE", ["pig:G", "pig:D", "pig:E"]),
    ("y ~ 0 + trait + trait:sex + us(0 + trait|animal:A) + diag(0 + trait|mother)", "A", ["animal:A", "mother"]),
    ("milk ~ lact + log(dim) + (1|id:A) + (1|herd)", "A", ["id:A", "herd"]),
    ("cbind(CD8, MCH) ~ 1 + (1|id:K)", "K", ["id:K"]),
]


@pytest.mark.parametrize(("formula", "keys", "labels"), MODELS)
def test_models_of_the_literature(formula, keys, labels):
    parsed = parse(formula, TAGS, relationships=list(keys))
    assert [term.label for term in parsed.terms] == labels
    for rhs in (parsed.fixed, *(term.effects for term in parsed.terms)):
        model_spec(rhs)
    for response in parsed.responses:
        assert len(model_spec(f"0 + {response}")) == 1


# White space


def spaced(formula, rng):
    """The formula with random white space around every sign but inside `||`."""
    compact = "".join(formula.split()).replace("||", "\0")
    blanks = ["", " ", "  ", "\n", "\t", " \n "]

    def blank():
        return blanks[rng.integers(len(blanks))]

    padded = "".join(f"{blank()}{char}{blank()}" if char in "~+-*/:|\0(),=" else char for char in compact)
    return padded.replace("\0", "||")


@pytest.mark.parametrize(
    ("formula", "keys"),
    [(formula, keys) for formula, keys, _ in MODELS]
    + [
        ("cbind(log(milk), fat) ~ x*z - 1 + offset(log(w)) + fa(leg(age, 2)|site:animal:A, k=2)", "A"),
        ("y ~ (a*b + x||f/g) + diag(0 + x|h, hom=True) + (1|mm(g1, g2, weights=(w1, w2)))", ""),
    ],
)
def test_white_space_and_line_breaks_do_not_matter(formula, keys):
    rng = np.random.default_rng(20260101)
    expected = replace(parse(formula, TAGS, relationships=list(keys)), source="")
    for _ in range(10):
        assert replace(parse(spaced(formula, rng), TAGS, relationships=list(keys)), source="") == expected


def test_reading_again_what_was_written_changes_nothing():
    for formula, keys, _ in MODELS:
        first = parse(formula, TAGS, relationships=list(keys))
        sources = dict.fromkeys(term.source for term in first.terms)
        again = parse(f"y ~ {' + '.join([first.fixed, *sources])}", TAGS, relationships=list(keys))
        assert (again.fixed, again.terms) == (first.fixed, first.terms)


def test_parsing_takes_little_beside_formulaic():
    def seconds(run):
        run()
        return min(timeit.repeat(run, number=5, repeat=8, timer=time.process_time))

    fixed = seconds(lambda: Formula("Reaction ~ Days + Days2"))
    assert seconds(lambda: parse("Reaction ~ Days + (Days|Subject)", TAGS)) < MOST_OF_FORMULAIC * fixed
