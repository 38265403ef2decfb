"""Values in shell text, given to real shells."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from goflow.templates.compiled import compiled
from goflow.templates.mistake import Mistake

SHELLS = [name for name in ("sh", "bash", "busybox") if shutil.which(name)]
SHELL = pytest.mark.parametrize("shell", SHELLS)
V = "{{ params.v }}"

# What a shell may take for something else, more often than other characters.
MARKED = st.sampled_from(list("'\"\\$`!#(){}[]<>|&;*?~=^%-\n\t\r \x01\x7f\x81\x88é€😀"))
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
VALUES = st.lists(MARKED | LETTERS, max_size=20).map("".join)


def script(text: str, **params: Any) -> str:
    return compiled(text, True).render({"params": params})[0]


def output(shell: str, text: str, folder: Path | None = None) -> bytes:
    start = [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    done = subprocess.run(
        [*start, text],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout


def refusal(text: str) -> str:
    with pytest.raises(Mistake) as caught:
        compiled(text, True)
    return caught.value.message


# -- each value comes back as it was -------------------------------------------------


class Argument(NamedTuple):
    """An argument of a command: its shell text, and what the command receives."""

    text: str
    value: str


PLAIN = st.sampled_from(["", "a", "x=", "-", "%", "/", "b1"])


@st.composite
def arguments(draw: st.DrawFn, values: st.SearchStrategy[Argument], depth: int = 2) -> Argument:
    """Values in all kinds of quotes, next to each other and to other text."""
    text, value = "", ""
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["bare", "single", "double", "escaped", "command"]))
        before, after = draw(PLAIN), draw(PLAIN)
        inner = draw(values)
        if kind == "bare":
            text += f"{before}{inner.text}{after}"
        elif kind == "single":
            text += f"'{before} # {inner.text}\"{after}'"
            before, after = f"{before} # ", f'"{after}'
        elif kind == "double":
            text += f'"{before} \'{inner.text}{after}"'
            before += " '"
        elif kind == "escaped":
            text += f"\\${before}\\'{inner.text}\\\\{after}"
            before, after = f"${before}'", f"\\{after}"
        elif depth:
            inner = draw(arguments(values, depth - 1))
            before, after = "", "."  # a substitution loses newlines at its end
            text += f"\"$(printf '%s.' {inner.text})\""
        else:
            continue
        value += f"{before}{inner.value}{after}"
    return Argument(text or "''", value)


@SHELL
@given(st.data())
def test_a_shell_reads_each_value_as_it_was(shell: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES, min_size=1, max_size=3))
    of_template = st.integers(0, len(values) - 1).map(
        lambda n: Argument(f"{{{{ params.v[{n}] }}}}", values[n])
    )
    listed = data.draw(st.lists(arguments(of_template), min_size=1, max_size=4))
    text = f"printf '%s\\0' {' '.join(one.text for one in listed)} # {{{{ params.v[0] }}}}\n"
    expected = b"".join(one.value.encode() + b"\0" for one in listed)
    assert output(shell, script(text, v=values)) == expected


@SHELL
@given(st.lists(VALUES, max_size=5))
def test_values_of_a_loop_are_arguments_of_their_own(shell: str, values: list[str]) -> None:
    text = "printf '%s\\0' end{% for one in params.v %} {{ one }}{% endfor %}"
    expected = b"end\0" + b"".join(one.encode() + b"\0" for one in values)
    assert output(shell, script(text, v=values)) == expected


@SHELL
@pytest.mark.parametrize("value", ["", "a b", "'", "-n", "$(id)", "\\", "two\nlines\n", "~", "*"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("printf %s {{ v }}", "{}"),
        ("printf %s '{{ v }}'", "{}"),
        ('printf %s "{{ v }}"', "{}"),
        ('x={{ v }}; printf %s "$x"', "{}"),
        ('x="a{{ v }}b"; printf %s "$x"', "a{}b"),
        ("cat <<'E'\nit's \"text\n\tE\nE\nprintf %s {{ v }}", "it's \"text\n\tE\n{}"),
        ("cat <<-E\n\tdon't\n\tE\nprintf %s '{{ v }}'", "don't\n{}"),
        ("echo $((1 + (2))) ; printf %s {{ v }}", "3\n{}"),
        ("x=it; echo ${x#i} ; printf %s {{ v }}", "t\n{}"),
        ('echo `echo "a"` ; printf %s {{ v }}', "a\n{}"),
        ("case {{ v }} in x) ;; *) printf %s {{ v }};; esac", "{}"),
        ('f() { printf %s "$1"; }; f {{ v }}', "{}"),
        ("# it's a comment\nprintf %s {{ v }}", "{}"),
        ("# about {{ v }}\nprintf %s {{ v }}", "{}"),
        ("printf %s a#{{ v }}", "a#{}"),
        ("printf %s \\\n {{ v }}", "{}"),
        ("(printf %s {{ v }})", "{}"),
        ("{% if true %}printf %s{% else %}echo{% endif %} {{ v }}", "{}"),
        ("{% set all %}a {{ v }}{% endset %}printf %s {{ all }}", "a {}"),
        ("{% with w = v %}printf %s {{ w }}{% endwith %}", "{}"),
        ("if [ {{ v }} = {{ v }} ]; then printf %s {{ v }}; fi", "{}"),
    ],
)
def test_a_value_in_its_place(shell: str, text: str, expected: str, value: str) -> None:
    done = output(shell, script(text.replace("{{ v }}", V).replace("= v ", "= params.v "), v=value))
    assert done.decode() == expected.format(value)


# -- nothing in a value is run -------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *[V] * 8,
        *(" ", ";", "\n", "'", '"', "$(", ")", "(", "\\", "`", "#", " #", "$", "${x:-", "}", "$(("),
        *("))", "<<E\n", "\nE\n", "<<-'E'\n", "E", "case", " in ", "esac", "$'", "|", "&&", ": "),
        *("$\\\n(", "<\\\n<E\n", "x\\\nE\n", "[[ ", " ]]", "$[", "]", "{{ params.r | raw }}"),
        *("a", "=", "<", ">", "if true; then ", " fi;", "for i in ", "; do ", "; done ", "\\\n"),
        *("{% if params.t %}", "{% else %}", "{% endif %}", "{% for i in [1, 2] %}"),
        "{% endfor %}",
    ]
)
ATTACKS = st.sampled_from(
    [
        *("$(touch M)", "`touch M`", "';touch M;'", '";touch M;"', "\ntouch M\n", ");touch M;("),
        *(
            "}touch M",
            "\nE\ntouch M\n",
            "\n\tE\ntouch M\n",
            "))touch M",
            "\\\ntouch M\n",
            "\\';touch M",
        ),
    ]
)


@SHELL
@given(
    text=st.lists(TOKENS, min_size=1, max_size=12).map("".join),
    before=VALUES,
    attack=ATTACKS,
    after=VALUES,
    t=st.booleans(),
    r=st.sampled_from(["", "a", "'", '"', "$", "(", ")", "<", "\\", "$(", "a b", "#", "<<E", "\n"]),
)
@example(text=f"cat <<E\n{V}\nE\n", before="", attack="\nE\ntouch M\n", after="", t=True, r="")
@example(text=f"${V}", before="\\'", attack=";touch M;", after="'", t=True, r="")
@example(
    text=f"cat <<E\nx\\\nE\necho {V}\nE\n", before="", attack="$(touch M)", after="", t=True, r=""
)
@example(text=f'echo "$\\\n(: {V})"', before="", attack=";touch M;", after="", t=True, r="")
@example(
    text=f'echo "${{{{ params.r | raw }}}}(: {V})"',
    before="",
    attack="$(touch M)",
    after="",
    t=True,
    r="a",
)
def test_no_value_is_run(
    shell: str,
    tmp_path_factory: pytest.TempPathFactory,
    text: str,
    before: str,
    attack: str,
    after: str,
    t: bool,
    r: str,
) -> None:
    folder = tmp_path_factory.mktemp("shell")
    try:
        made = script(text, v=before + attack + after, t=t, r=r)
    except Mistake:
        assume(False)
    output(shell, made, folder)
    assert not (folder / "M").exists()


# -- places that are refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"echo \\{V}", "right after a backslash"),
        (f'echo "\\{V}"', "right after a backslash"),
        (f"echo ${V}", "right after a $"),
        (f'echo "${V}"', "right after a $"),
        (f"cat <<E\n{V}\nE\n", "in a here-document"),
        (f"cat <<'E'\n{V}\nE\n", "in a here-document"),
        (f"cat <<-E\n\t{V}\n\tE\n", "in a here-document"),
        (f"cat <<{V}\n", "the delimiter of a here-document"),
        (f"cat <<E{V}\n", "the delimiter of a here-document"),
        (f"echo $((1 + {V}))", "within $((…))"),
        (f"echo $(( $(echo {V}) ))", "within $((…))"),
        (f"echo `echo {V}`", "within `…` cannot be quoted; write $(…)"),
        (f"echo ${{x:-{V}}}", "within ${…}"),
        (f'echo "${{x:-"{V}"}}"', 'after a quote within "${…}"'),
        (f"echo $'a' {V}", "after $'…'"),
        (f"echo $[1] {V}", "after $[…]"),
        (f"[[ {V} ]]", "after [[ … ]]"),
        (f'echo "$\\\n(echo {V})"', "after a backslash right after $"),
        (f"cat <<E\na\\\nE\necho {V}\nE\n", "a backslash at the end of a line"),
        (f"echo $((1\n)) {V}", "within $((…))"),
        (f"echo ${{{{ params.v | raw }}}}({V}", "after a raw value right after $"),
        (f"cat <{{{{ params.v | raw }}}}<E\n{V}", "after a raw value right after <"),
        (f"{{{{ params.v | raw }}}}(({V}", "after a ( right after a raw value"),
        (f"(( {V} ))", "after ((…))"),
        (f"cat <(echo {V})", "after <(…)"),
        (f"echo $(case a in a) echo {V};; esac)", "after a case within $(…)"),
        (f'cat <<"a b"\n{V}', "after a here-document with an unusual delimiter"),
        (f"{{% if params.v %}}'{{% endif %}}{V}", "the if in line 1 leaves quotes"),
        (f'{{% for i in params.v %}}"{{% endfor %}}{V}', "the loop in line 1 leaves quotes"),
        (f"{{{{ params.v | raw }}}}#{V}", "after a # that may begin a comment"),
    ],
)
def test_a_place_where_quotes_would_not_help_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(text)
    assert "{{ value | raw }}" in refusal(text)


def test_loops_are_not_deep_in_each_other() -> None:
    text = "{% for i in params.v %}" * 6 + V + "{% endfor %}" * 6
    assert "more than 5 loops are within each other" in refusal(text)


@SHELL
@pytest.mark.parametrize("length", [999, 1000, 1001, 2001, 5000])
def test_long_lines_and_delimiters_of_documents(shell: str, length: int) -> None:
    long = "E" * length
    text = f"cat <<{long}\n{long}x\n{long}\nprintf %s {V}"
    if length > 1000:
        assert "here-document with an unusual delimiter" in refusal(text)
    else:
        assert output(shell, script(text, v="'")) == f"{long}x\n'".encode()
    tabs = "\t" * length
    inside = script(f"cat <<-E\n{tabs}Ex\n\tE\nprintf %s {V}", v="'")
    assert output(shell, inside) == b"Ex\n'"


def test_a_refusal_has_the_line() -> None:
    with pytest.raises(Mistake) as caught:
        compiled(f"set -e\n\necho ${V}", True)
    assert caught.value.line == 3


def test_a_value_with_nul_fails() -> None:
    with pytest.raises(Mistake, match="NUL"):
        script(f"echo {V}", v="a\0b")


# -- raw -------------------------------------------------------------------------------


def test_raw_inserts_a_value_without_quotes() -> None:
    assert script("{{ params.v | raw }} | cat", v="echo 'a b'") == "echo 'a b' | cat"


def test_raw_works_where_quotes_do_not() -> None:
    assert script("echo $(({{ params.v | raw }} + 1))", v=2) == "echo $((2 + 1))"


def test_a_whole_script_may_be_raw() -> None:
    assert script("{{ params.v | raw }}", v="cat <<E\nit's\nE\n") == "cat <<E\nit's\nE\n"


@pytest.mark.parametrize("value", ["'", '"', "$(", "a # b", "\\", "$", "<<", "`", "cat <<E"])
def test_raw_text_that_leaves_something_open_fails_before_a_quoted_value(value: str) -> None:
    with pytest.raises(Mistake, match="raw value leaves a quote"):
        script("{{ params.v | raw }} {{ params.w }}", v=value, w="x")


@pytest.mark.parametrize(
    "text",
    [
        "{{ (params.v | raw) ~ 'x' }}",
        "{{ params.v | raw | upper }}",
        "{% set x = params.v | raw %}",
    ],
)
def test_raw_must_be_the_last_filter(text: str) -> None:
    assert "raw must be the last filter" in refusal(text)


def test_raw_changes_nothing_outside_shell_text() -> None:
    values: Mapping[str, Any] = {"params": {"v": "it's"}}
    assert compiled("{{ params.v | raw }}", False).render(values)[0] == "it's"


def test_two_values_in_quotes_of_one_expression_are_one_argument() -> None:
    assert script("echo {{ params.a ~ ' ' ~ params.b }}", a="x", b="y") == "echo 'x y'"


def test_the_tests_use_a_real_shell() -> None:
    assert "sh" in SHELLS
    assert output("sh", "printf %s a") == b"a"
