"""What templates render to, and what they cannot do."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.templates import spending
from goflow.templates.compiled import compiled, values_of
from goflow.templates.mistake import Mistake
from tests.operators.memory_log import context_with

DUE = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


def values(**changes: Any) -> dict[str, Any]:
    params = {"day": "2026-01-01", "n": 5, "items": ["a", "b"], "it's": True}
    fields = {"params": params, "results": {"extract": {"rows": 7}}, "scheduled_at": DUE}
    return values_of(context_with(None, **(fields | changes)))


def text(template: str, **changes: Any) -> str:
    rendered: str = compiled(template, False).render(values(**changes))[0]
    return rendered


def value(template: str, **changes: Any) -> Any:
    return compiled(template, False).render(values(**changes), is_typed=True)[0]


def mistake(template: str, **changes: Any) -> Mistake:
    with pytest.raises(Mistake) as caught:
        text(template, **changes)
    return caught.value


# -- what it renders to --------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("day {{ params.day }}, {{ results.extract.rows }} rows", "day 2026-01-01, 7 rows"),
        ("{{ job }}/{{ task }}/{{ execution_id }}/{{ attempt }}", "j/t/0b1c/1"),
        ("{{ scheduled_at.strftime('%Y/%m') }}", "2026/03"),
        ("{{ scheduled_at.date() }} {{ scheduled_at.hour }}", "2026-03-01 2"),
        ("{{ submitted_at.isoformat() }}", "2026-01-01T00:00:00+00:00"),
        ("{{ (scheduled_at - submitted_at).days }}", "59"),
        ("{{ params.items | join(', ') }}", "a, b"),
        ("{{ params[\"it's\"] }}", "True"),
        ("{% for i in params.items %}{{ loop.index }}{{ i }}{% endfor %}", "1a2b"),
        ("{% for k, v in results.extract.items() %}{{ k }}={{ v }}{% endfor %}", "rows=7"),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{% if params.n > 3 and params.n in [5] %}many{% endif %}", "many"),
        ("{{ 1 < params.n <= 5 }} {{ params.n == 5 != 6 }}", "True True"),
        ("{{ params.day[:4] }} {{ params.items[0:1] }} {{ 'abc'[::-1] }}", "2026 ['a'] cba"),
        ("{{ 'a' ~ 1 ~ none }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }}", "a1None 3 3 1024"),
        ("{{ '%05.1f|%s' % (2.5, 'x') }} {{ '%s-%s' | format(1, 2) }}", "002.5|x 1-2"),
        ("{{ '{:>4}|{a[b]}'.format(7, a={'b': 1}) }}", "   7|1"),
        ("{{ ' a '.strip() | upper }} {{ 'a,b'.split(',') | length }}", "A 2"),
        ("{{ [3, 1, 2] | sort | first }} {{ [1, 2] | sum }} {{ [1, 2] | max }}", "1 3 2"),
        ("{{ [{'a': 1}, {'a': 2}] | map(attribute='a') | list }}", "[1, 2]"),
        ("{{ [{'a': 1}, {'a': 2}] | selectattr('a', 'gt', 1) | list | length }}", "1"),
        ("{% for g in [{'a': 1}, {'a': 1}] | groupby('a') %}{{ g.grouper }}{% endfor %}", "1"),
        ("{{ [params.day, true, none] | tojson }}", '["2026-01-01", true, null]'),
        ("{{ '<a>' | escape }} {{ 'a b&' | urlencode }}", "&lt;a&gt; a%20b%26"),
        ("{{ params.nope | default('none') }} {{ params.nope is defined }}", "none False"),
        ("{{ 3.7 | round | int }} {{ '12' | int + 1 }} {{ 1000 | filesizeformat }}", "4 13 1.0 kB"),
        (
            "{% set ns = namespace(n=0) %}"
            "{% for i in [1, 2] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "3",
        ),
        ("{% set x %}in {{ params.day }}{% endset %}{{ x }}", "in 2026-01-01"),
        ("{# a comment #}{% raw %}{{ .Names }}{% endraw %}\n", "{{ .Names }}\n"),
        ("a{{ 'x' if false }}b", "ab"),
        ("no names at all", "no names at all"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_template_renders_to(template: str, expected: str) -> None:
    assert text(template) == expected


def test_an_item_of_a_dict_comes_before_a_method_of_that_name() -> None:
    params = {"items": 1, "keys": 2, "get": 3}
    assert text("{{ params.items }}{{ params.keys }}{{ params.get }}", params=params) == "123"


def test_a_skipped_task_has_the_result_none() -> None:
    assert text("{{ results.skipped }}") == "None"
    assert text("{{ results.skipped.rows if results.skipped else 0 }}") == "0"
    assert text("{{ results['skipped'] }} {{ results.get('skipped', 1) }}") == "None 1"


def test_results_can_be_listed() -> None:
    assert text("{% for name, value in results.items() %}{{ name }}{{ value }}{% endfor %}") == (
        "extract{'rows': 7}"
    )
    assert text("{{ results.items }}", results={"items": 3}) == "3"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ params.n }}", 5),
        ("{{ params['items'] }}", ["a", "b"]),
        ("{{ results.extract }}", {"rows": 7}),
        ("{{ params.n > 3 }}", True),
        ("{{ none }}", None),
        ("{{ (1, range(2)) }}", [1, [0, 1]]),
        ("{{ scheduled_at }}", "2026-03-01T02:30:00+00:00"),
        (" {{ params.n }}", " 5"),
        ("{{ params.n }}{{ params.n }}", "55"),
        ("{% if true %}{{ params.n }}{% endif %}", "5"),
    ],
)
def test_one_expression_alone_has_a_value_with_its_type(template: str, expected: Any) -> None:
    assert value(template) == expected


@given(st.text(), st.text())
def test_values_are_inserted_as_they_are(one: str, other: str) -> None:
    params = {"one": one, "other": other}
    assert text("{{ params.one }}-{{ params.other }}", params=params) == f"{one}-{other}"


# -- what fails when it is rendered ---------------------------------------------------


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ params.nope }}", "there is no 'nope' among 'day', 'n', 'items', \"it's\""),
        ("{{ results.extract.nope }}", "there is no 'nope' among 'rows'"),
        ("{{ results.nope.rows }}", "None has no 'rows'"),
        ("{{ params.n.nope }}", "the int 5 has no 'nope'"),
        ("{{ params.day.upper }}", "the function 'upper' is not a value; call it with ()"),
        ("{{ item }}", "'item' exists only in a task with map_over"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ params.n + 'x' }}", "unsupported operand"),
        ("{{ params.day | int(base=99) + none }}", "unsupported operand"),
        ("{% for i in 5 %}{% endfor %}", "a loop needs a list, not 5"),
        ("{% for i in params.nope %}{% endfor %}", "there is no 'nope'"),
        ("{% if params.nope %}{% endif %}", "there is no 'nope'"),
        ("{{ params.nope ~ 'x' }}", "there is no 'nope'"),
        ("{{ params.nope[1:] }}", "there is no 'nope'"),
        ("{{ params.nope < 1 }}", "there is no 'nope'"),
        ("{{ [params.nope] }}", "there is no 'nope'"),
        ("{{ ('x' if false).y }}", "evaluated to false and no else"),
        ("{{ ('x' if false)() }}", "evaluated to false and no else"),
        ("{{ ('x' if false)[1:] }}", "evaluated to false and no else"),
    ],
)
def test_a_value_that_does_not_fit_fails(template: str, told: str) -> None:
    assert told in mistake(template).message


def test_a_failure_has_the_line() -> None:
    assert mistake("a\n{% if true %}\n{{ params.nope }}\n{% endif %}").line == 3


def test_a_list_that_holds_what_is_missing_fails_as_json_too() -> None:
    with pytest.raises(Mistake, match="there is no 'nope'"):
        value("{{ [params.nope] }}")


# -- what it must not reach -------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ params.__class__.__mro__ }}",
        "{{ params['__init__'] }}",
        "{{ [''] | map(attribute='__class__') | list }}",
        "{{ [''] | selectattr('__class__') | list }}",
        "{{ ['', ''] | sort(attribute='__class__') }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '{0[__class__]}'.format('') }}",
        "{{ '{a.__init__.__globals__}'.format(a=params) }}",
        "{{ ''.format.__self__ }}",
        "{{ range.__init__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace().__class__ }}",
        "{{ dict.__subclasses__() }}",
        "{{ params.nope.__class__ }}",
        "{{ (1).real }}",
        "{{ scheduled_at.tzinfo }}",
        "{{ scheduled_at.__reduce__() }}",
        "{{ params.update(n=6) }}",
        "{{ params['items'].append('c') }}",
        "{{ params.pop('n') }}",
        "{{ params.clear() }}",
        "{{ ''.encode() }}",
        "{{ ''.format_map({}) }}",
        "{% for i in [1] %}{{ loop.__class__ }}{% endfor %}",
        "{% for i in [1] %}{{ loop._iterator }}{% endfor %}",
        "{% for i in [1] %}{{ loop }}{% endfor %}",
        "{{ range }}",
        "{{ namespace(a=1) }}",
        "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns.a }}",
        "{{ 'x'() }}",
        "{{ params() }}",
    ],
)
def test_a_template_reaches_nothing_but_its_values(template: str) -> None:
    given = values()
    with pytest.raises(Mistake):
        compiled(template, False).render(given)
    assert given["params"] == values()["params"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ '' | attr('__class__') }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ lipsum.__globals__ }}",
        "{{ cycler.__init__ }}",
        "{{ joiner }}",
        "{{ request }}",
        "{{ config }}",
        "{{ context }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
    ],
)
def test_a_way_out_is_refused_when_it_is_defined(template: str) -> None:
    with pytest.raises(Mistake):
        compiled(template, False)


# -- time and memory ---------------------------------------------------------------------


TOO_MUCH = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(10**30) %}x{% endfor %}",
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}" + "x" * 10_000 + "{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [0] * 10**9 }}",
    "{{ (0,) * 10**9 }}",
    "{{ (10 ** 10000) ** 10000 }}",
    "{{ 10 ** (10 ** 8) }}",
    "{% set ns = namespace(x='x' * 100) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='x' * 100) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[0] * 100) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=3) %}{% for i in range(99) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c }}",
    "{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c | tojson }}",
    "{% set a = [1] * 1000 %}{% set b = [a] * 1000 %}{{ '%s%s%s%s' % (b, b, b, b) }}",
    "{{ (['x' * 10000] * 10000) | join }}",
    "{{ ('x' * 10000).replace('', 'x' * 10000) }}",
    "{{ ('x' * 10000) | replace('x', 'x' * 10000) }}",
    "{{ ('x' * 10000).join('x' * 10000) }}",
    "{{ ('\n' * 100000) | indent(9999, blank=true) }}",
    "{{ range(10**9) | list }}",
    "{{ range(10**9) | map('upper') | list }}",
    "{{ range(10**9) | sort }}",
    "{{ range(10**9) | join }}",
    "{{ range(10**9) | sum }}",
    "{{ range(10**9) | string }}{{ range(10**9) | tojson }}",
    "{{ range(10**9) | max }}",
    "{{ 0.5 in range(10**9) }}",
    "{% for i in range(9999) %}{% if 'x' * 9999 == 'x' * 9999 %}{% endif %}{% endfor %}",
    "{% for i in range(9999) %}{{ ('x' * 9999)[1:] | length }}{% endfor %}",
    "{{ scheduled_at.strftime('%c' * 10**5) }}",
]  # fmt: skip


@pytest.mark.parametrize("template", TOO_MUCH)
def test_a_template_that_takes_too_much_fails(template: str) -> None:
    assert "it takes more than the 5,000,000" in mistake(template).message


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{{ 'x' | center(10**9) }}", "1000000000 is too large here; the most is 10000"),
        ("{{ 'x'.ljust(10**9) }}", "is too large here"),
        ("{{ 'x'.zfill(10**9) }}", "is too large here"),
        ("{{ 'x' | indent(10**9) }}", "is too large here"),
        ("{{ [1] | slice(10**9) | list }}", "is too large here"),
        ("{{ [1] | batch(10**9, 'x') | list }}", "is too large here"),
        ("{{ 1 | round(-10**9) }}", "is too large here"),
        ("{{ 1 | tojson(indent=10**9) }}", "is too large here"),
        ("{{ '%1000000000d' % 1 }}", "has a width above 9999"),
        ("{{ '%*d' % (10**9, 1) }}", "has a width above 9999, or a *"),
        ("{{ '%.1000000000f' % 1 }}", "has a width above 9999"),
        ("{{ '%1000000000s' | format(1) }}", "has a width above 9999"),
        ("{{ '{:>1000000000}'.format(1) }}", "is too wide"),
        ("{{ '{:>{w}}'.format(1, w='1000000000') }}", "is too wide"),
        ("{{ [[1]] | sum(start=[]) }}", "sum adds up numbers"),
        ("{{ (10 ** 4500) | string }}", "Exceeds the limit"),
        ("{{ ('x' * 10000) * 200 }}", "it makes 2,000,000 characters, more than the 1,048,576"),
    ],
)  # fmt: skip
def test_a_number_that_makes_much_is_refused(template: str, told: str) -> None:
    assert told in mistake(template).message


def test_a_large_result_can_be_used() -> None:
    rows = [{"id": n, "name": f"row {n}"} for n in range(10_000)]
    template = "{% for row in results.rows %}{{ row.id }},{{ row.name }}\n{% endfor %}"
    assert text(template, results={"rows": rows}).count("\n") == 10_000
    assert text("{{ results.rows }}", results={"rows": "x" * 1_000_000}) == "x" * 1_000_000


def test_a_smaller_allowance_says_so_to_the_caller() -> None:
    template = compiled("{% for i in range(999) %}{{ i }}{% endfor %}", False)
    with pytest.raises(spending.TooMuch):
        template.render(values(), 1000)


# -- what is refused when it is defined ----------------------------------------------------


@pytest.mark.parametrize(
    ("template", "line", "told"),
    [
        ("{{ params.day", 1, "unexpected end of template"),
        ("\n{% if params.day %}", 2, "Unexpected end of template"),
        ("a\n{% endif %}", 2, "unknown tag 'endif'"),
        ("\n\n{{ day }}", 3, "unknown name 'day'; a template knows params, results, scheduled_at"),
        ("{% if true %}{{ env.HOME }}{% endif %}", 1, "unknown name 'env'"),
        ("{{ params.day | nope }}", 1, "there is no filter 'nope'; there are abs, batch"),
        ("{{ params.day | _each(1) }}", 1, "there is no filter '_each'"),
        ("{% if params.day is nope %}{% endif %}", 1, "there is no test 'nope'; there are boolean"),
        ("{% macro f() %}{% endmacro %}", 1, "cannot use {% macro %}"),
        ("\n{% block a %}{% endblock %}", 2, "cannot use {% block %}"),
        ("{% filter upper %}{% endfilter %}", 1, "cannot use {% filter %}"),
        ("{% for i in [] recursive %}{% endfor %}", 1, "a loop cannot be recursive"),
        ("echo ${#name}", 1, "'{#' begins a comment of the template"),
        ("{% for a in [] %}" * 25 + "{% endfor %}" * 25, 1, "it is nested too deeply"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", 1, "it is nested too deeply"),
        ("{{ " + "-" * 5000 + "1 }}", 1, "it is nested too deeply"),
    ],
)
def test_a_mistake_is_found_when_it_is_defined(template: str, line: int, told: str) -> None:
    with pytest.raises(Mistake) as caught:
        compiled(template, False)
    assert told in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''[-1] ~ 'x' }}",
        "{{ not {}.x }}",
        "{{ ([][0] and 1) ~ '' }}",
        "{{ 1 < 'x' }}",
        "{% for i in [1][5] %}{% endfor %}",
    ],
)
def test_constants_are_computed_when_it_is_rendered(template: str) -> None:
    assert mistake(template).line == 1


def test_the_results_that_are_named_are_known() -> None:
    template = "{{ results.a.x }}\n{{ results['b'] }}{{ results[params.c] }}{{ params.results.d }}"
    assert [(one.name, one.line) for one in compiled(template, False).results] == [
        ("a", 1),
        ("b", 2),
    ]
    assert compiled("{% set results = {} %}{{ results.a }}", False).results == ()
    assert compiled("{{ results.keys() }}", False).results == ()
