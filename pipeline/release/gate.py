"""Whether a release may follow another: what moved too far, went, or misses its target.

Belongs here: judging a comparison by ``data_specs/release_gate.yaml`` and approvals. Does not
belong here: the comparison (``diff.py``), the thresholds (``specs/release_gate.py``), or making a
release (``make.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import polars as pl

from pipeline.release.diff import Difference
from pipeline.specs.release_gate import Approval, MoveRule, ReleaseGate
from pipeline.specs.states import state_of
from pipeline.vocabulary import NATION, STATE

MOVED, TARGET_MOVED, TARGET_GONE, FIGURE_GONE, STATE_GONE, MISSED = (
    *("moved", "target_moved", "target_gone", "figure_gone", "state_gone", "missed"),
)
_GONE = 1.0


@dataclass(frozen=True)
class Violation:
    """One thing that the gate does not let pass.

    ``size``: the relative move, the share of areas whose target went, or the relative error;
    ``limit``: what is allowed; ``rule``: by which rule; ``approved``: the approval that covers it.
    """

    what: str
    level: str
    geoid: str
    figure: str
    size: float
    limit: float
    rule: str
    words: str
    approved: Approval | None = None

    def row(self) -> dict[str, Any]:
        """For JSON."""
        said = self.approved.model_dump(mode="json") if self.approved else None
        return {**self.__dict__, "approved": said}


@dataclass(frozen=True)
class Verdict:
    """What was found, with the approvals that count.

    ``expired`` and ``unused``: approvals that did not count, because their day is over, or because
    nothing happened that they speak of.
    """

    violations: tuple[Violation, ...]
    expired: tuple[Approval, ...] = ()
    unused: tuple[Approval, ...] = ()

    @property
    def refused(self) -> list[Violation]:
        """Those that nobody approved."""
        return [v for v in self.violations if v.approved is None]

    @property
    def approved(self) -> list[Violation]:
        """Those that somebody did."""
        return [v for v in self.violations if v.approved is not None]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "refused": [v.row() for v in self.refused],
            "approved": [v.row() for v in self.approved],
            "expired_approvals": [a.model_dump(mode="json") for a in self.expired],
            "unused_approvals": [a.model_dump(mode="json") for a in self.unused],
        }


def judge(
    gate: ReleaseGate,
    totals: pl.DataFrame,
    difference: Difference | None,
    approvals: Sequence[Approval],
    today: date,
) -> Verdict:
    """Judge a release.

    Parameters
    ----------
    totals : of the release, columns of ``Difference.totals`` from ``level`` on that the rule about
        misses needs: ``level, geoid, variable, domain, b, target, concept_error, records``.
    difference : from the release before to this one; None for a first release.
    today : approvals that expire before it do not count.
    """
    found = list(_missed(gate, totals))
    if difference is not None:
        found += [
            *_states_gone(difference),
            *_moved(gate, difference.totals),
            *_figures_gone(gate, difference.figures_gone),
            *_targets_gone(gate, difference.targets),
        ]
    valid = [a for a in approvals if a.expires >= today]
    judged, used = [], set()
    for violation in found:
        by = next((a for a in valid if _covers(a, violation)), None)
        used |= {id(a) for a in valid if _covers(a, violation)}
        judged.append(replace(violation, approved=by))
    return Verdict(
        tuple(judged),
        tuple(a for a in approvals if a.expires < today),
        tuple(a for a in valid if id(a) not in used),
    )


def _covers(approval: Approval, v: Violation) -> bool:
    return approval.covers(v.what, v.level, v.geoid, v.figure, abs(v.size))


def _states_gone(difference: Difference) -> Iterable[Violation]:
    for state in difference.states_gone:
        words = f"{state} is not in the release; {difference.a.name} has it"
        fips = state_of(state).fips
        yield Violation(STATE_GONE, STATE, fips, state, _GONE, 0.0, STATE_GONE, words)


def _moved(gate: ReleaseGate, totals: pl.DataFrame) -> Iterable[Violation]:
    """Figures that moved too far; where only the target did, which the weights follow no further
    than its error tells them, the target.
    """
    judged = totals.filter(pl.col("level").is_in(_judged_levels(gate)))
    for row in judged.iter_rows(named=True):
        rule = gate.rule_of(row["level"], row["unit"], row["kind"], _figure(row))
        if rule is None or (row["records"] or 0) < rule.least_records:
            continue
        of_target = row["target_move"] or 0.0
        if _is_too_far(rule, row["move"], row["standard_errors"]):
            words = (
                f"moved {_percent(row['move'])}, from {row['a']:,.0f} to {row['b']:,.0f}"
                f" {row['unit']}"
            )
            words += f" (its target {_percent(of_target)})" if of_target else ""
            yield _violation(MOVED, row, row["move"], rule, words)
        elif abs(of_target) > rule.share:
            words = f"has a target that moved {_percent(of_target)}, to {row['target']:,.0f}"
            yield _violation(TARGET_MOVED, row, of_target, rule, f"{words} {row['unit']}")


def _is_too_far(rule: MoveRule, move: float | None, errors: float | None) -> bool:
    if move is None or abs(move) <= rule.share:
        return False
    return not rule.standard_errors or errors is None or abs(errors) > rule.standard_errors


def _violation(
    what: str, row: dict[str, Any], size: float, rule: MoveRule, words: str
) -> Violation:
    figure = _figure(row)
    said = f"{_where(row)} {figure} {words}; {100 * rule.share:g} % is allowed ({rule.name})"
    return Violation(what, row["level"], row["geoid"], figure, size, rule.share, rule.name, said)


def _judged_levels(gate: ReleaseGate) -> list[str]:
    named = {level for rule in gate.moved for level in rule.levels}
    return (
        sorted(named)
        if all(rule.levels for rule in gate.moved)
        else [NATION, STATE, "county", "tract"]
    )


def _figures_gone(gate: ReleaseGate, gone: pl.DataFrame) -> Iterable[Violation]:
    """Figures of the nation and of states that nobody can compare any more."""
    for row in gone.filter(pl.col("level").is_in([NATION, STATE])).iter_rows(named=True):
        figure = _figure(row)
        rule = gate.rule_of(row["level"], row["unit"], row["kind"], figure)
        if rule is None or (row["records"] or 0) < rule.least_records:
            continue
        words = f"{_where(row)} {figure} is measured no more; it was {row['a']:,.0f} {row['unit']}"
        yield Violation(
            FIGURE_GONE, row["level"], row["geoid"], figure, _GONE, 0.0, rule.name, words
        )


def _targets_gone(gate: ReleaseGate, targets: pl.DataFrame) -> Iterable[Violation]:
    for row in targets.filter(pl.col("gone") > 0).iter_rows(named=True):
        limit = gate.targets_gone.share.get(row["level"])
        share = row["gone"] / row["areas_a"]
        if limit is None or share <= limit:
            continue
        figure = _figure(row)
        words = (
            f"{figure} lost its target in {row['gone']:,} of {row['areas_a']:,} areas of level"
            f" {row['level']} ({row['source']}); {100 * limit:g} % may"
        )
        yield Violation(TARGET_GONE, row["level"], "*", figure, share, limit, "targets_gone", words)


def _missed(gate: ReleaseGate, totals: pl.DataFrame) -> Iterable[Violation]:
    rule = gate.missed
    told = totals.filter(
        pl.col("level").is_in(rule.levels)
        & pl.col("target").is_not_null()
        & (pl.col("target") != 0)
    )
    for row in told.iter_rows(named=True):
        if row["b"] is None or (row["records"] or 0) < rule.least_records:
            continue
        error = row["b"] / row["target"] - 1
        limit = rule.share + (row["concept_error"] or 0.0)
        if abs(error) <= limit:
            continue
        figure = _figure(row)
        words = (
            f"{_where(row)} {figure} misses its target by {_percent(error)}: {row['b']:,.0f} for"
            f" {row['target']:,.0f}; {100 * limit:.3g} % is allowed"
        )
        yield Violation(MISSED, row["level"], row["geoid"], figure, error, limit, "missed", words)


def _figure(row: dict[str, Any]) -> str:
    return f"{row['variable']}/{row['domain']}"


def _where(row: dict[str, Any]) -> str:
    return "nation" if row["level"] == NATION else f"{row['level']} {row['geoid']}"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"
