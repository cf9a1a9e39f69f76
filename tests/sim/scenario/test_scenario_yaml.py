"""The YAML that is read, by the rules of YAML 1.2, and the YAML that is refused, with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from sim.scenario.yaml_file import MAX_BYTES, MAX_VALUES, parse_yaml, parse_yaml_value, read_yaml_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("26e6", 26e6),
        ("1e6", 1e6),
        ("1E+6", 1e6),
        ("0.0", 0.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("-1.5e-3", -0.0015),
        ("16", 16),
        ("+16", 16),
        ("0x1a", 26),
        ("0o17", 15),
        ("010", 10),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'16'", "16"),
        ('"true"', "true"),
        ("400 Gb/s", "400 Gb/s"),
        ("[1, a, null]", [1, "a", None]),
        ("{a: {b: 2}}", {"a": {"b": 2}}),
        ("64 GB  # as sold", "64 GB"),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = parse_yaml_value(text)
    assert read == value
    assert type(read) is type(value)


def test_numbers_of_exponents_are_floats_and_not_texts():
    assert isinstance(parse_yaml("a: 26e6\n").data["a"], float)


def test_every_key_and_item_has_its_line():
    text = "# a remark\na: 1\nb:\n  c: 2\n\n  d: {e: 3,\n    f: 4}\ng:\n  - 5\n  - h: 6\n    i: 7\n"
    lines = parse_yaml(text).lines
    assert lines["a",] == 2
    assert lines["b", "c"] == 4
    assert lines["b", "d", "e"] == 6
    assert lines["b", "d", "f"] == 7
    assert lines["g", 0] == 9
    assert lines["g", 1, "h"] == 10
    assert lines["g", 1, "i"] == 11


def test_keys_are_texts_whatever_they_look_like():
    assert parse_yaml("8: a\ntrue: b\nmodel.top_k: c\n").data == {"8": "a", "true": "b", "model.top_k": "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f: the file must hold a scenario, got an empty file. `moesim init FILE` writes one to start from."),
        ("# x\n", "f: the file must hold a scenario, got an empty file. `moesim init FILE` writes one to start from."),
        (
            "- a\n",
            "f:1: the file must be a mapping of keys at the top level, got [a]. "
            "Write keys with values, such as `model:` and `cluster:`.",
        ),
        ("a: 1\nb: &x 2\n", "f:2: b must have no anchors, got &x. Remove it and write the value out."),
        ("a: *x\n", "f:1: a must have no aliases, got *x. Write the value out."),
        ("a: !!int 3\n", "f:1: a must have no tags, got !!int. Remove it; the type follows from the value."),
        (
            "a:\n  - !!python/object/apply:os.system [ls]\n",
            "f:2: a.0 must have no tags, got !!python/object/apply:os.system. "
            "Remove it; the type follows from the value.",
        ),
        (
            "a: {b: 1}\nc: 2\na: 3\n",
            "f:3: a must be given once, got a second one. It stands on line 1 already; remove one of the two.",
        ),
        (
            "a: 1\n---\nb: 2\n",
            "f:2: the file must be one YAML document, got several. Keep one scenario per file; remove the line `---`.",
        ),
        (
            "%YAML 1.1\n---\na: 1\n",
            "f:2: the file must have no directives, got a line that starts with %. Remove that line.",
        ),
        ("? [a]\n: 1\n", "f:1: the file must have texts as keys, got a list or mapping as a key. Write `key: value`."),
        (
            "a: .inf\n",
            "f:1: a must be a finite number, got .inf. Write a number of at most 40 digits that is below 1e308.",
        ),
        (
            "a: 1e999\n",
            "f:1: a must be a finite number, got 1e999. Write a number of at most 40 digits that is below 1e308.",
        ),
        (
            f"a: {'9' * 5000}\n",
            f"f:1: a must be a finite number, got {'9' * 60}.... "
            "Write a number of at most 40 digits that is below 1e308.",
        ),
        (
            'a: "\\ud800"\n',
            "f:1: a must be Unicode text, got \\ud800. Remove the escape of half a character, \\ud800 to \\udfff.",
        ),
        (
            "a: b: c\n",
            "f:1: the file must be valid YAML, got an error (mapping values are not allowed here). "
            "Check indentation, brackets, colons and quotes on this line and the one before it.",
        ),
        (
            "a: 1\n\tb: 2\n",
            "f:2: the file must be valid YAML, got an error (found character '\\t' that cannot start any token). "
            "Write spaces instead of the tab.",
        ),
        (
            "a: 1\nb: \x00\n",
            "f:2: the file must be valid YAML, got an error (special characters are not allowed). "
            "Check indentation, brackets, colons and quotes on this line and the one before it.",
        ),
    ],
)  # fmt: skip
def test_what_is_no_plain_yaml_mapping_is_refused_with_its_line(text, message):
    with pytest.raises(InvalidValueError) as refused:
        parse_yaml(text, file="f")
    assert str(refused.value) == message


@pytest.mark.parametrize("text", ["[" * 100000, "a: " + "{a: " * 100000, "- " * 100000])
def test_deep_nesting_is_refused_and_not_followed(text):
    with pytest.raises(InvalidValueError, match="must be nested at most 20 deep, got a deeper level"):
        parse_yaml(text)


def test_more_values_than_a_scenario_has_are_refused():
    parse_yaml(f"a: [{'1, ' * (MAX_VALUES - 2)}]")
    with pytest.raises(
        InvalidValueError, match=r"^f:3: the file must hold at most 10000 values, got more than that\. Split"
    ):
        parse_yaml(f"a: [\n{'1, ' * (MAX_VALUES - 2)}\n1]", file="f")


def test_twenty_levels_are_read():
    assert parse_yaml("a: " + "[" * 19 + "]" * 19).data["a"] is not None
    with pytest.raises(InvalidValueError, match="must be nested at most 20 deep"):
        parse_yaml("a: " + "[" * 20 + "]" * 20)


def test_missing_files_folders_and_bytes_are_refused(tmp_path):
    (tmp_path / "latin1.yaml").write_bytes(b"a: 1\nname: caf\xe9\n")
    (tmp_path / "utf16.yaml").write_bytes("a: 1\n".encode("utf-16-le"))
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    expected = {
        "none.yaml": ": the file must exist, got no such file. "
        "Check the path, or `moesim list scenarios` for bundled names.",
        "": ": the file must be a file, got a directory. Name a file in it.",
        "latin1.yaml": ":2: the file must be UTF-8 text, got byte 0xe9. Save it as UTF-8.",
        "utf16.yaml": ": the file must be UTF-8 text, got zero bytes, as in binary files. "
        "Save it as UTF-8, if it is a text in another encoding such as UTF-16.",
        "large.yaml": ": the file must be at most 256 KiB large, got more than that. Split it into several scenarios.",
        "latin1.yaml/x": ": the file must be readable, got Not a directory. Check the path.",
    }
    for name, message in expected.items():
        with pytest.raises(InvalidValueError) as refused:
            read_yaml_file(tmp_path / name)
        assert str(refused.value) == f"{tmp_path / name}{message}"


def test_a_path_with_a_nul_is_refused():
    with pytest.raises(
        InvalidValueError, match=r"must be readable, got a path that cannot be opened\. Check the path\."
    ):
        read_yaml_file("a\0b")


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    document = read_yaml_file(path)
    assert document.data == {"a": 1, "b": 2}
    assert document.lines["b",] == 2


YAMLISH = "\t\n :-,[]{}#&*!|>'\"%@`?~\\xuU\u0085\u2028\ufeff é\x7faE1.+_<="


@given(st.text(max_size=60) | st.text(alphabet=YAMLISH, max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        document = parse_yaml(text, file="f")
    except InvalidValueError as refused:
        assert "\n" not in str(refused)
        return
    assert isinstance(document.data, dict)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    try:
        read_yaml_file(path)
    except InvalidValueError as refused:
        assert refused.file == str(path)


def test_a_text_that_is_read_again_gives_data_of_its_own():
    """What one reader does to its data is not seen by the next; another file is named in its own errors."""
    text = "model: {layers: 16}\n"
    first, second = (parse_yaml(text, file="a.yaml") for _ in range(2))
    first.data["model"]["layers"] = 3
    first.lines.clear()
    assert second.data == parse_yaml(text, file="a.yaml").data == {"model": {"layers": 16}}
    assert second.lines == {(): 1, ("model",): 1, ("model", "layers"): 1}
    for file in ("a.yaml", "b.yaml"):
        with pytest.raises(InvalidValueError, match=file):
            parse_yaml("- 1\n", file=file)
