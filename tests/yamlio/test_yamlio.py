"""YAML with places: what values come out, where they stand, and what is refused."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetaudit import yamlio
from fleetaudit.errors import ConfigError, Place
from fleetaudit.yamlio import Document

SAMPLE = b"""\
version: 1
rules:
  - id: a
    ports: [80, "443"]
  - id: b
    text: |
      two
      lines
empty:
"""


def message(text: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        yamlio.parse(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-17", -17),
        ("8080", 8080),
        ("1.5", 1.5),
        ("-.5e3", -500.0),
        ("1e3", 1000.0),
        # what YAML 1.1 or Python would make something else of
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("22:22", "22:22"),
        ("1:2:3", "1:2:3"),
        ("010", "010"),
        ("00", "00"),
        ("0x1f", "0x1f"),
        ("0o17", "0o17"),
        ("1_000", "1_000"),
        ("2026-11-22", "2026-11-22"),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e999", "1e999"),
        ("9" * 19, "9" * 19),
        ("9" * 5000, "9" * 5000),
        ("\u0661\u0662", "\u0661\u0662"),  # digits, but not ASCII ones
        ("=", "="),
        # quotes and tags
        ("'80'", "80"),
        ('"true"', "true"),
        ("!!str 80", "80"),
        ("! 80", "80"),
        ("!!int 80", 80),
        ("!!float 1.0", 1.0),
        ("!!bool true", True),
        ("!!null ~", None),
        ("!!map {}", {}),
        ("!!seq []", []),
        ("\ufeffa: 1", {"a": 1}),
        ("{80: a, '<<': b}", {"80": "a", "<<": "b"}),
        ("a: 1\n...\n", {"a": 1}),
        ("--- [x]", ["x"]),
    ],
)
def test_values(text: str, value: object) -> None:
    found = yamlio.parse(text.encode(), "f.yaml").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a: &x 1\n", "f.yaml:1:4: anchors (&x) are not supported (remove the anchor)"),
        (b"&x a: 1\n", "f.yaml:1:1: anchors (&x) are not supported"),
        (b"b: *x\n", "f.yaml:1:4: aliases (*x) are not supported (write the value out)"),
        (b"*x : 1\n", "f.yaml:1:1: aliases (*x) are not supported"),
        (b"a: 1\n<<: {b: 1}\n", "f.yaml:2:1: merge keys (<<) are not supported"),
        (b"a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key 'a' is already used at line 1 (keep one of the two)"),
        (b"1: a\n'1': b\n", "f.yaml:2:1: the key '1' is already used at line 1"),
        (b"true: a\n", "f.yaml:1:1: true cannot be a key: it is not text (put it in quotes)"),
        (b"1.5: a\n", "f.yaml:1:1: 1.5 cannot be a key"),
        (b"? [a]\n: b\n", "f.yaml:1:3: a list or mapping cannot be a key"),
        (b"a: {{ x }}\n", "f.yaml:1:5: a list or mapping cannot be a key (quote a value that begins with {"),
        (b"a: !vault |\n  12\n", "f.yaml:1:4: only Ansible can read values that ansible-vault has encrypted"),
        (
            b"!!python/object/apply:os.system [id]\n",
            "the tag !!python/object/apply:os.system is not supported",
        ),
        (b"a: !!int x\n", "f.yaml:1:4: 'x' does not fit its tag !!int"),
        (b"a: !!set {b}\n", "f.yaml:1:4: the tag !!set is not supported"),
        (b"a: !mine {b: 1}\n", "f.yaml:1:4: the tag !mine is not supported"),
        (b"a: 1\n---\nb: 1\n", "f.yaml:2:1: a second YAML document begins here (---)"),
        (b"a:\n\t- b\n", "f.yaml:2:1: a tab stands where YAML wants spaces (indent with spaces)"),
        (b"a:\n  b: 1\n\tc: 1\n", "f.yaml:3:1: a tab stands where YAML wants spaces"),
        (b"a: @b\n", "f.yaml:1:4: a value cannot begin with @ (put it in quotes)"),
        (b"a: 'b\n", "that began at line 1"),
        (b"a: b: c\n", "f.yaml:1:5: this is not valid YAML: mapping values are not allowed"),
        (b"a: [1\n", "this is not valid YAML"),
        (b"a: \xff\n", "f.yaml:1: the text is not UTF-8 (save the file as UTF-8)"),
        ("a: 1".encode("utf-16"), "f.yaml: this is a binary file, not YAML"),
        (b"\x7fELF\x00", "f.yaml: this is a binary file, not YAML"),
        (b"a: b\nc: \x1b[2J\n", "f.yaml:2:4: the control character \\u001b is not allowed in YAML"),
        (b"x" * (yamlio.MAX_BYTES + 1), "f.yaml: the file is 2097153 bytes long; the limit is 2097152"),
        (b"[" * 51, "f.yaml:1:51: nested deeper than 50 levels (flatten it)"),
        (b"? " * 60, "nested deeper than 50 levels"),
    ],
)
def test_refused_with_place_and_remedy(text: bytes, expected: str) -> None:
    assert expected in message(text)


def test_every_mistake_at_once_but_not_without_end() -> None:
    assert message(b"a: &x 1\nb: *x\na: 2\n").count("f.yaml:") == 3
    assert message(b"a: &x 1\nb: 'open\n").count("f.yaml:") == 2
    assert message(b"".join(b"- *x%d\n" % number for number in range(1000))).count("\n") == 19


def test_fifty_levels_are_allowed() -> None:
    value = yamlio.parse(b"[" * 50 + b"]" * 50, "f.yaml").value
    for _ in range(50):
        assert isinstance(value, list)
        value = value[0] if value else None


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ((), False, Place("f.yaml", 1, 1)),
        (("version",), False, Place("f.yaml", 1, 10)),
        (("version",), True, Place("f.yaml", 1, 1)),
        (("rules", 0, "ports", 1), False, Place("f.yaml", 4, 17)),
        (("rules", 0, "ports"), True, Place("f.yaml", 4, 5)),
        (("rules", 1), False, Place("f.yaml", 5, 5)),
        (("rules", 1), True, Place("f.yaml", 5, 5)),
        (("rules", 1, "text"), False, Place("f.yaml", 6, 11)),
        (("empty",), False, Place("f.yaml", 9, 7)),
        # absent: the nearest ancestor that exists, and not that one's key
        (("rules", 1, "absent", 3), False, Place("f.yaml", 5, 5)),
        (("rules", 9), True, Place("f.yaml", 3, 3)),
        (("version", "deeper"), True, Place("f.yaml", 1, 10)),
    ],
)
def test_places(path: tuple[str | int, ...], key: bool, expected: Place) -> None:
    assert yamlio.parse(SAMPLE, "f.yaml").place(path, key=key) == expected


def test_columns_count_characters() -> None:
    document = yamlio.parse("{ä: ö, b: c}".encode(), "f.yaml")
    assert document.place(("b",)) == Place("f.yaml", 1, 11)


def test_a_document_made_by_hand_knows_its_file() -> None:
    assert Document("f.yaml", {"a": 1}).place(("a",)) == Place("f.yaml")


def test_the_slow_loader_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = yamlio.parse(SAMPLE, "f.yaml")
    monkeypatch.setattr(yamlio, "_Loader", yaml.SafeLoader)
    slow = yamlio.parse(SAMPLE, "f.yaml")
    assert slow == fast
    assert slow.place(("rules", 1, "text")) == fast.place(("rules", 1, "text"))
    assert "a tab stands" in message(b"a:\n\t- b\n")
    assert "deeper than 50" in message(b"[" * 100_000)


@pytest.mark.parametrize(
    "text", [b"[" * yamlio.MAX_BYTES, b"{" * yamlio.MAX_BYTES, b"- " * 1_000_000, b"a: " * 600_000]
)
def test_hostile_depth_ends_at_once(text: bytes) -> None:
    begin = time.process_time()
    message(text)
    assert time.process_time() - begin < 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(
        st.characters(
            codec="utf-8",
            exclude_categories=["Cc", "Cs", "Cn"],
            exclude_characters="\u2028\u2029\ufeff\ufffe",
        )
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_what_a_yaml_writer_wrote_is_read_back(value: object) -> None:
    text = yaml.dump(value, allow_unicode=True, Dumper=NoAliases)
    assert yamlio.parse(text.encode(), "f.yaml").value == value


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@settings(max_examples=300, deadline=2000)
@given(st.data())
def test_damage_gives_a_document_or_a_located_error(data: st.DataObject) -> None:
    text = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [
                    b"&a ",
                    b"*a",
                    b"!x ",
                    b"{",
                    b"[",
                    b"'",
                    b'"',
                    b"\t",
                    b"? ",
                    b": ",
                    b"\n",
                    b"- ",
                    b"|",
                    b"%",
                    b"---\n",
                    b"<<: ",
                ]
            )
            | st.binary(max_size=3)
        )
    try:
        document = yamlio.parse(bytes(text), "f.yaml")
    except ConfigError as error:
        places = [problem.place for problem in error.problems]
    else:
        places = [document.place(())]
    assert places
    assert all(place and place.file == "f.yaml" for place in places)
