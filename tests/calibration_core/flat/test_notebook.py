"""What a notebook and an editor see: HTML without outside resources, types of every method.

Belongs here: ``_repr_html_`` and type hints. Does not belong here: tables
(``test_from_margins.py``).
"""

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import get_args, get_overloads

import numpy as np
import pytest

import calibration_core
from calibration_core import METHODS, CalibrationProblem, advise, calibrate, diagnose, settings_of
from calibration_core.flat import api, options


def problem(conflict=0.0, name="sex:<b>F</b> & co", **fields):
    rng = np.random.default_rng(0)
    code = rng.integers(0, 2, 40)
    matrix = np.array([code == 0, code == 1, np.ones(40)], float)
    return CalibrationProblem(
        matrix,
        [100.0, 120.0, 220.0 * (1 + conflict)],
        rng.gamma(4, 1, 40),
        target_names=[name, "sex:M", "total"],
        **fields,
    )


class Checked(HTMLParser):
    """Tags that open and close in order, and the text between them."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.seen = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def shown(thing) -> str:
    html = thing._repr_html_()
    parser = Checked()
    parser.feed(html)
    assert not parser.open
    assert parser.seen <= {"div", "p", "b", "table", "tr", "td", "th", "ul", "li", "code"}
    assert not re.search(r"https?:|src=|href=|<script|<style|@import|url\(", html)
    assert len(html) < 20_000
    return " ".join(parser.text)


@pytest.mark.parametrize("conflict", [0.0, 0.1])
def test_every_answer_is_shown_with_what_it_says_in_words(conflict):
    given = problem(conflict)
    result = calibrate(given)
    text = shown(result)
    assert result.status in text and ("NOT CONVERGED" in text) == (not result.converged)
    assert all(w.message in text for w in result.warnings)
    assert "sex:<b>F</b> & co" in text, "names are shown as they are, not as markup"
    text = shown(given)
    assert "3 x 40" in text and "sex" in text and "total" in text
    advice = advise(given)
    text = shown(advice)
    assert advice.best.call in text and all(name in text for name in METHODS)
    diagnosis = diagnose(given)
    text = shown(diagnosis)
    assert diagnosis.verdict in text and all(w.message in text for w in diagnosis.findings)


def test_long_lists_are_cut_and_counted():
    rows = np.eye(40)
    names = [f"g{k}:x" for k in range(40)]
    given = CalibrationProblem(rows, np.ones(40), np.ones(40), target_names=names)
    assert "and 28 more" in shown(given)
    assert "none" in shown(given.change(initial_weights=None))
    assert "0.5 to 2" in shown(given.change(ratio_bounds=(0.5, 2.0)))


def fields_of(kind) -> dict:
    """The annotations of a typed dictionary, its bases' among them."""
    return kind.__annotations__


def test_the_types_of_options_are_the_settings():
    """The hand-written types name every setting of every method, and nothing else."""
    assert set(get_args(options.Method)) == set(METHODS) == set(options.OPTIONS)
    for method, kind in options.OPTIONS.items():
        fields = {f.name for f in dataclasses.fields(settings_of(method))}
        assert set(fields_of(kind)) == fields, method


def test_words_of_choices_are_those_of_the_rules():
    for method, kind in options.OPTIONS.items():
        for name, hint in fields_of(kind).items():
            text = hint.__forward_arg__ if hasattr(hint, "__forward_arg__") else str(hint)
            text = text.replace("Compromise", 'Literal["least_squares", "minimax"]')
            words = re.findall(r"[\"'](\w+)[\"']", text) if "Literal" in text else []
            rule = type(settings_of(method)).RULES[name]
            for word in words:
                assert rule.allows(word), (method, name, word)
            assert bool(words) == any(isinstance(x, str) for x in _choices(rule)), (method, name)


def _choices(rule) -> tuple:
    parts = getattr(rule, "rules", (rule,))
    return tuple(word for part in parts for word in getattr(part, "choices", ()))


def test_every_method_has_an_overload():
    named = [
        word
        for overload in get_overloads(api.calibrate)
        for word in re.findall(r"[\"'](\w+)[\"']", str(overload.__annotations__["method"]))
    ]
    assert sorted(named) == sorted(METHODS)


def test_public_names_are_there_for_editors_too():
    for name in calibration_core.__all__:
        assert getattr(calibration_core, name) is not None
    assert set(calibration_core.__all__) == set(calibration_core._PUBLIC)


SNIPPET = """
import numpy as np
from calibration_core import METHODS, CalibrationProblem, advise, calibrate, diagnose, rake
p = CalibrationProblem(np.ones((1, 3)), np.ones(1))
reveal_type(calibrate(p, "raking", tolerance=1e-8))
reveal_type(calibrate(p, "hybrid", records=3).weights)
reveal_type(calibrate(p).converged)
reveal_type(advise(p).best.call)
reveal_type(diagnose(p).feasible)
reveal_type(rake({"a": [1]}, {"a": {1: 2.0}}).summary())
calibrate(p, "raking", records=3)
calibrate(p, "raking", tolerance="small")
calibrate(p, "gradient", loss="cubic")
for method in METHODS:
    calibrate(p, method)
CalibrationProblem([[1.0, 2.0]], {"a": 3.0}, [1, 2], ratio_bounds=(0.5, np.ones(2)))
"""


def test_a_type_checker_follows_the_front_door(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--follow-imports=silent",
            "--cache-dir",
            str(tmp_path / "c"),
            str(tmp_path / "snippet.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.splitlines()
    revealed = [line.split("Revealed type is ")[1] for line in lines if "Revealed type" in line]
    wanted = ["CalibrationResult", "ndarray", "bool", "str", "bool | None", "str"]
    assert len(revealed) == 6, run.stdout
    for found, words in zip(revealed, wanted, strict=True):
        assert words in found.replace("builtins.", "").replace("Union[bool, None]", "bool | None")
    wrong = {int(line.split(":")[1]) for line in lines if ": error:" in line}
    assert wrong == {11, 12, 13}, run.stdout
