"""Host patterns: Ansible's meaning, and no pattern that silently matches nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import patterns
from fleetaudit.errors import ConfigError

FLEET = {
    "web1": ("prod", "web"),
    "web2": ("prod", "web"),
    "web10": ("staging", "web"),
    "db1": ("db", "prod"),
    "Web3": ("ungrouped",),
    "a.example.org": ("ungrouped",),
    "2001:db8::1": ("v6",),
}


def select(text: str) -> set[str]:
    pattern = patterns.parse(text)
    return {name for name, groups in FLEET.items() if pattern.matches(name, groups)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", set(FLEET)),
        ("*", set(FLEET)),
        ("web", {"web1", "web2", "web10"}),
        ("web1", {"web1"}),
        ("web1:db", {"web1", "db1"}),
        ("web1,db", {"web1", "db1"}),
        (" web1 , db1,", {"web1", "db1"}),
        ("web:&prod", {"web1", "web2"}),
        ("&prod:web", {"web1", "web2"}),
        ("!web1:web:&prod", {"web2"}),
        ("web:&prod:!web2", {"web1"}),
        ("!web", {"db1", "Web3", "a.example.org", "2001:db8::1"}),
        ("&prod", {"web1", "web2", "db1"}),
        ("&prod:&web", {"web1", "web2"}),
        ("all:!all", set()),
        ("web:!*2", {"web1", "web10"}),
        ("web*", {"web1", "web2", "web10"}),
        ("w?b?", {"web1", "web2"}),
        ("web[!1]", {"web2"}),
        ("?eb[a-z1]", {"web1"}),
        ("*.example.*", {"a.example.org"}),
        ("pro*", {"web1", "web2", "db1"}),
        ("~web[0-9]$", {"web1", "web2"}),
        ("~eb", set()),
        ("~.*eb", {"web1", "web2", "web10", "Web3"}),
        ("~(web|db)1$:&prod", {"web1", "db1"}),
        ("~[w,:]eb2", {"web2"}),
        ("2001:db8::1", {"2001:db8::1"}),
        ("[2001:db8::1]", {"2001:db8::1"}),
        ("web1,2001:db8::1", {"web1", "2001:db8::1"}),
        ("web1:[2001:db8::1]", {"web1", "2001:db8::1"}),
        ("all:![2001:db8::1]:!web", {"db1", "Web3", "a.example.org"}),
        ("nothing", set()),
        ("eb1", set()),
        ("WEB1", set()),
    ],
)
def test_matches(text: str, expected: set[str]) -> None:
    assert select(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the host pattern is empty"),
        (" \t", "the host pattern is empty"),
        (",", "a term is empty"),
        ("a::b:", "a term is empty"),
        ("web:!", "a term is empty"),
        ("web:& ", "a term is empty"),
        ("web:,db", "a term is empty"),
        ("a b", "holds a blank or a control character (separate names by : or ,)"),
        ("a\x1bb", "'a\\u001bb' holds a blank or a control character"),
        ("web[", "a bracket is not closed or not opened"),
        ("web]", "a bracket is not closed or not opened"),
        ("web[0]", "positions in a group ('web[0]') depend on the order in an inventory"),
        ("web[-1]", "positions in a group"),
        ("web[0:5]", "positions in a group"),
        ("web[0-5]", "positions in a group"),
        ("!web[2:]", "positions in a group"),
        ("web[a:f]", "'web[a:f]': a range is for inventories (write a glob such as web[a-f])"),
        ("@hosts.txt", "a pattern here cannot come from a file (@FILE)"),
        ("a&b", "'a&b' holds &, which no host or group name has"),
        ("web(1|2)", "holds ("),
        ("~web(", "'web(' is not a regular expression: missing )"),
        ("~(?=web)", "RE2 syntax, no look-around"),
        ("~web{1,2}", "the regular expression is cut at a comma"),
        ("~(?:a|b)", "is not a regular expression"),
        ("~", "a term is empty"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        patterns.parse(text)


def test_terms_tell_what_was_written() -> None:
    pattern = patterns.parse("web:&pr*,!~db")
    assert [str(term) for term in pattern.terms] == ["web", "&pr*", "!~db"]
    assert [term.literal for term in pattern.terms] == [True, False, False]
    assert pattern.text == "web:&pr*,!~db"
    assert pattern == patterns.parse("web:&pr*,!~db")


NAMES = st.sampled_from(sorted({*FLEET, "web", "db", "prod", "w*", "~.*1", "all"} - {"2001:db8::1"}))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "&", "!"]), NAMES), min_size=1, max_size=6))
def test_set_arithmetic_whatever_the_order(terms: list[tuple[str, str]]) -> None:
    def union(operator: str) -> list[set[str]]:
        return [select(name) for sign, name in terms if sign == operator]

    expected = set().union(*union("")) if union("") else set(FLEET)
    for others in union("&"):
        expected &= others
    for others in union("!"):
        expected -= others
    written = [sign + name for sign, name in terms]
    assert select(":".join(written)) == expected
    assert select(",".join(reversed(written))) == expected


@settings(max_examples=300, deadline=1000)
@given(st.text("ab:,&!~*?[]{}()|^$\\ .@-\x00\u202e1", max_size=30))
def test_any_text_is_a_pattern_or_one_clear_error(text: str) -> None:
    try:
        pattern = patterns.parse(text)
    except ConfigError as error:
        said = str(error)
    else:
        said = " ".join(str(term) for term in pattern.terms)
        assert pattern.matches("web1", ()) in (True, False)
    assert said
    assert said.isprintable()
