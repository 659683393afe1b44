"""What a notebook shows of a problem, a result, advice and a diagnosis: small tables of HTML.

No styles or scripts are fetched from anywhere; what is shown follows the notebook's own colours.

What is shown is known here by its attributes alone: the classes import this module.

Belongs here: those fragments. Does not belong here: what is said in them (``result.py``,
``advice.py``, ``conflicts/``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

# Rows of a table, and warnings, that are shown; how many more there are is said.
_ROWS, _NOTES = 12, 8
_CELL = "padding:2px 8px;text-align:{}"


def problem_html(problem: Any) -> str:
    """Size, weights, bounds, and the groups of targets."""
    m, n = problem.size
    start = problem.start[problem.start > 0]
    facts = [("targets x records", f"{m:,} x {n:,}")]
    if problem.initial_weights is None:
        facts.append(("initial weights", "none"))
    else:
        facts.append(("initial weights", f"{start.min():.4g} to {start.max():.4g}"))
        facts.append(("their sum", f"{start.sum():,.6g}"))
    for name in ("ratio_bounds", "weight_bounds"):
        ends = getattr(problem, name)
        if ends is not None:
            facts.append((name.replace("_", " "), f"{ends[0].min():.4g} to {ends[1].max():.4g}"))
    facts.append(("standard errors", "no" if problem.standard_errors is None else "yes"))
    groups = dict.fromkeys(problem.groups)
    label = np.array(problem.groups)
    rows = [
        (g, f"{int((label == g).sum()):,}", f"{float(problem.targets[label == g].sum()):,.6g}")
        for g in list(groups)[:_ROWS]
    ]
    table = _table(("group", "targets", "sum of targets"), rows, len(groups))
    return _box("Calibration problem", [_facts(facts), table])


def result_html(result: Any) -> str:
    """What happened, the targets furthest off, and every warning."""
    met, error = result.targets_met, np.abs(result.residuals) / result.problem.relative_scale
    ratio = result.ratios[np.isfinite(result.ratios)]
    facts = [
        ("status", result.status),
        ("targets met", f"{int(met.sum()):,} of {met.size:,}"),
        ("relative error", f"median {np.median(error):.2g}, largest {error.max():.2g}"),
        ("records kept", f"{result.selected.size:,} of {result.weights.size:,}"),
        ("effective sample size", f"{result.effective_sample_size:,.1f}"),
    ]
    if ratio.size and result.problem.initial_weights is not None:
        facts.append(("weight ratios", f"{ratio.min():.4g} to {ratio.max():.4g}"))
    rows = [
        (name, f"{target:,.6g}", f"{fitted:,.6g}", f"{off:.2%}")
        for name, target, fitted, off in result.worst(5)
    ]
    table = _table(("furthest off", "target", "fitted", "error"), rows, len(rows))
    said = "converged" if result.converged else "NOT CONVERGED"
    parts = [_facts(facts), table, _notes(result.warnings)]
    return _box(f"{result.method}: {said}", parts)


def advice_html(advice: Any) -> str:
    """The methods that apply, ranked, and why the others do not."""
    rows = [(r.method, str(r.score), "; ".join(r.reasons)) for r in advice.ranked if r.applies]
    others = [(r.method, r.reasons[0]) for r in advice.ranked if not r.applies]
    parts = [
        f"<p>Try: <code>{escape(advice.best.call)}</code></p>",
        _table(("method", "score", "why"), rows, len(rows), words=2),
        _table(("does not apply", "because"), others, len(others), words=1),
        _notes(advice.figures.conflicts),
    ]
    return _box("Advice", parts)


def diagnosis_html(diagnosis: Any) -> str:
    """Whether the targets can be met, and everything found."""
    facts = [("seconds", f"{diagnosis.seconds:.3g}")]
    if diagnosis.minimax_error > 0:
        facts.append(("smallest possible largest error", f"{diagnosis.minimax_error:.3%}"))
    if diagnosis.smallest_bounds is not None:
        low, high = diagnosis.smallest_bounds
        facts.append(("narrowest feasible ratios", f"{low:.4g} to {high:.4g}"))
    return _box(f"Diagnosis: {diagnosis.verdict}", [_facts(facts), _notes(diagnosis.findings)])


def _box(title: str, parts: Iterable[str]) -> str:
    return f'<div class="geocal"><p><b>{escape(title)}</b></p>{"".join(parts)}</div>'


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr>{_cell(name, 'left')}{_cell(value, 'left')}</tr>" for name, value in facts)
    return f"<table>{rows}</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], total: int, words: int = 0) -> str:
    """Rows of cells; the first column and column ``words`` hold words, the others numbers."""
    if not rows:
        return ""
    sides = ["left" if k in (0, words) else "right" for k in range(len(head))]
    lines = [
        f"<tr>{''.join(_cell(x, side, tag) for x, side in zip(line, sides, strict=True))}</tr>"
        for tag, line in (("th", head), *(("td", row) for row in rows))
    ]
    more = total - len(rows)
    if more > 0:
        lines.append(f"<tr>{_cell(f'and {more:,} more', 'left')}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(text: str, side: str, tag: str = "td") -> str:
    return f'<{tag} style="{_CELL.format(side)}">{escape(str(text))}</{tag}>'


def _notes(warnings: Sequence[Any]) -> str:
    if not warnings:
        return ""
    items = [f"<li>{escape(w.message)}</li>" for w in warnings[:_NOTES]]
    if len(warnings) > _NOTES:
        items.append(f"<li>and {len(warnings) - _NOTES:,} more</li>")
    return f"<ul>{''.join(items)}</ul>"
