"""docs/states.md agrees with the tables."""

from goflow.core.progress import TABLE
from goflow.core.states import State, TriggerRule
from tests.core.render_states import DOCUMENT, render


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), (
        "rewrite it: python -m tests.core.render_states"
    )


def test_every_transition_is_drawn_once() -> None:
    document = render()
    for fact, row in TABLE.items():
        for before, after in row.moves.items():
            assert document.count(f"\n    {before} --> {after}: {fact.__name__}\n") == 1


def test_every_state_and_every_rule_is_named() -> None:
    document = render()
    assert all(f"`{name}`" in document for name in [*State, *TriggerRule])


def test_the_effect_of_a_rule_is_shown() -> None:
    document = render()
    rules = document.split("| upstream | ")[1].split(" |\n")[0].split(" | ")
    row = document.split("| failed, … | ")[1].split(" |\n")[0].split(" | ")
    shown = dict(zip(rules, row, strict=True))
    assert shown["`allSuccessful`"] == "skip"
    assert shown["`oneFailed`"] == "run"
    assert shown["`allDone`"] == "wait"
