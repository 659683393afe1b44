"""Rules of settings are data: every field has one, defaults keep it, what breaks it is refused.

Belongs here: what holds of every settings class with a table. Does not belong here: what a setting
does.
"""

import dataclasses
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import calibration_core
from calibration_core import METHODS, calibrate, settings_of
from calibration_core.common.settings import Choice, Either, Number, Numbers, Switch, Word, check
from calibration_core.errors import SettingsError


def settings_classes() -> list[type]:
    """Every dataclass of the core that has a table of rules."""
    found = set()
    for module in pkgutil.walk_packages(calibration_core.__path__, "calibration_core."):
        for _, thing in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if dataclasses.is_dataclass(thing) and hasattr(thing, "RULES"):
                found.add(thing)
    return sorted(found, key=lambda c: (c.__module__, c.__name__))


CLASSES = settings_classes()
EACH = pytest.mark.parametrize(
    "kind", CLASSES, ids=lambda c: f"{c.__module__.split('.')[-1]}.{c.__name__}"
)


def test_every_method_has_a_table():
    assert {type(settings_of(name)) for name in METHODS} <= set(CLASSES)


@EACH
def test_every_field_has_a_rule_and_its_default_keeps_it(kind):
    fields = {f.name: f for f in dataclasses.fields(kind)}
    assert set(fields) == set(kind.RULES)
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING:
            assert kind.RULES[name].allows(field.default), name


@EACH
def test_what_a_rule_forbids_is_refused_in_the_same_words(kind):
    for name, rule in kind.RULES.items():
        assert rule.words and not rule.words.endswith(".")
        for wrong in rule.wrong():
            assert not rule.allows(wrong), (name, wrong)
            with pytest.raises(SettingsError) as raised:
                kind(**{name: wrong})
            assert raised.value.found.startswith(f"{name} is "), str(raised.value)
            assert raised.value.expected == rule.words
            assert raised.value.remedy.startswith("Its default is ")


@EACH
def test_every_setting_is_explained(kind):
    documented = "\n".join(inspect.getdoc(c) or "" for c in kind.__mro__ if c is not object)
    for name in kind.RULES:
        assert name in documented, name


@pytest.mark.parametrize("method", METHODS)
def test_the_front_door_refuses_by_the_same_rules(method):
    """Before it looks at the problem."""
    problem = calibration_core.CalibrationProblem(np.ones((1, 3)), [3.0], np.ones(3))
    name, rule = next(iter(type(settings_of(method)).RULES.items()))
    with pytest.raises(SettingsError, match=f"{name} is "):
        calibrate(problem, method, **{name: rule.wrong()[0]})


def test_words_of_rules():
    assert Number(above=0, most=1e-2).words == "a number above 0, at most 0.01"
    assert Number(least=1, whole=True, none=True).words == "a whole number at least 1, or None"
    assert Number().words == "a number"
    assert Choice(("a", "b", "c"), none=True).words == "'a', 'b', 'c' or None"
    assert Choice(("a",)).words == "'a'"
    assert Either((Switch(), Word())).words == "True or False, or a word in quotes"
    assert Numbers(Number(above=0)).words == "several numbers, each a number above 0"


def test_what_rules_allow():
    whole = Number(least=1, whole=True)
    assert whole.allows(np.int64(3)) and not whole.allows(3.0) and not whole.allows(np.bool_(True))
    number = Number(least=0, below=1)
    assert number.allows(np.float32(0.5)) and number.allows(0) and not number.allows(1)
    assert Numbers(number).allows(np.array([0.1, 0.2])) and Numbers(number).allows([])
    assert not Numbers(number).allows(np.ones((2, 2)) / 2) and not Numbers(number).allows(0.5)
    assert Switch().allows(np.bool_(False)) and not Switch().allows(0)


def test_a_long_value_is_cut_in_the_message():
    @dataclasses.dataclass(frozen=True)
    class One:
        RULES = {"x": Number()}  # noqa: RUF012
        x: object = 1.0

    with pytest.raises(SettingsError) as raised:
        check(One("y" * 500))
    assert len(raised.value.found) < 80
