"""A page for each student and one for the class: self-contained HTML, no script, nothing loaded, every word escaped."""

import hashlib
import re
from collections import Counter
from html import escape

from grader import rubric
from grader.classroom import charts
from grader.classroom.gradebook import check_columns
from grader.classroom.similarity import Likeness
from grader.classroom.students import Student, find_changed
from grader.own_questions import PUBLIC_NOTE, SEED_NOTE
from grader.report import html
from grader.report.html import clean, render_check
from grader.report.text import headline, plain
from grader.result import State

MORE_STYLE = """
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } td, th { text-align: left; padding: .15rem .6rem .15rem 0; border-bottom: 1px solid var(--line); overflow-wrap: break-word; vertical-align: top } th { white-space: nowrap }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } h2 { margin: 1.6rem 0 .4rem } section h2 { margin: 0 } svg { width: 100%; height: auto; font-size: 13px; margin: .4rem 0 }
svg text { fill: var(--ink) } svg .soft { fill: var(--soft) } .bar { fill: var(--go) } .back { fill: var(--line); opacity: .35 } .half { fill: var(--half); opacity: .5 } .go { fill: var(--go); opacity: .5 }
.axis { stroke: var(--line) } .mark { stroke: var(--ink); stroke-width: 3 } .dot { fill: var(--ink) } .alarm { border-left: .35rem solid var(--no); padding-left: .8rem } a { color: inherit }
pre.words { white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit }
"""
RUBRIC_NOTE = "graded under another rubric ({}) than the one of now; staff decide whether it is graded again"


def page(title: str, body: str) -> str:
    """A page of a class."""
    return html.page(title, title, body, MORE_STYLE)


def file_name(student_id: str) -> str:
    """The file of a student's page: a harmless name, and another one for each ID.  Example: '123456' -> '123456.html'"""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", student_id)[:60]
    changed = not name or name != student_id or name.lower() != name
    return (
        f"{name}-{hashlib.sha256(student_id.encode('utf-8', 'replace')).hexdigest()[:8]}.html"
        if changed
        else f"{name}.html"
    )


def table(head: list[str], rows: list[list[object]]) -> str:
    """A table; numbers to the right."""

    def cell(value: object, tag: str = "td") -> str:
        is_number = isinstance(value, int | float)
        return f"<{tag}{' class=n' if is_number else ''}>{f'{value:g}' if is_number else clean(str(value))}</{tag}>"

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{''.join(cell(word, 'th') for word in head)}</tr>{body}</table>"


def student_page(student: Student, late_penalty: float) -> str:
    """What one student may read: the score and what it is made of, each check with its cause, and where it comes from."""
    result = student.result
    if result is None:
        return page(student.id, "<p>not graded yet</p>")
    shares = [
        (check.name, check.score / check.points if check.points else 0.0, f"{check.score:g} / {check.points:g}")
        for check in result.checks
    ]
    measured = result.measured
    chart = "" if student.is_fault else charts.bars(shares, "points by check")
    if {"accuracy", "low", "high"} <= set(measured) and not student.is_from_other_rubric:
        bounds = rubric.read_rubric().bounds["accuracy"]
        chart += charts.gauge(measured["accuracy"], measured["low"], measured["high"], *bounds)
    older = "".join(f"<li>handed in too, and does not count: {clean(name)}</li>" for name in student.hand_in.older)
    said = [*([SEED_NOTE] if student.has_public_seed else []), *result.notes]
    said += [RUBRIC_NOTE.format(student.rubric)] if student.is_from_other_rubric else []
    notes = older + "".join(f"<li>{clean(note)}</li>" for note in said)
    facts = {"file": student.hand_in.path.name, "sha256": student.sha256, **result.provenance, "rubric": student.rubric}
    return page(
        student.id,
        f'<p class="total">{clean(headline(result))}</p>{points_table(student, result.points, late_penalty)}{chart}'
        f"{f'<ul>{notes}</ul>' if notes else ''}{''.join(map(render_check, result.checks))}"
        f"{render_answers(student.answers)}<p><small>{clean(str(facts))}</small></p>",
    )


def points_table(student: Student, points: float, late_penalty: float) -> str:
    """What counts and what it is made of: before and after the penalty, and why."""
    rows: list[list[object]] = [["by the grader", "none" if student.raw is None else student.raw]]
    if reason := student.penalty_reason(late_penalty):
        rows.append([reason, 0 - student.penalty(late_penalty)])
        rows.append(["after the penalty", "none" if student.raw is None else student.after_penalty(late_penalty)])
    if student.override is not None:
        rows.append([f"set by the staff: {student.reason}", student.override])
    if student.added:
        rows.append([f"added by the staff: {student.reason}", student.added])
    if student.reason and student.override is None and not student.added:
        rows.append([f"the staff: {student.reason}", ""])
    final = student.final(late_penalty)
    return table(["points", ""], [*rows, [f"counts, of {points:g}", "none yet" if final is None else final]])


def render_answers(answers: str) -> str:
    """What the student wrote, as text and never as HTML or Markdown."""
    if not answers.strip():
        return f"<h2>{rubric.ANSWERS}</h2><p>There is none in what could be read.</p>"
    text = escape(plain(answers, 2 * rubric.ANSWERS_BYTES))  # it is bounded where it is read
    return f"<h2>{rubric.ANSWERS}, never scored by code</h2><pre class=words>{text}</pre>"


def class_page(students: list[Student], likeness: list[Likeness], late_penalty: float) -> str:
    """What staff look at first: who has no score, the distribution, what fails and why, and what is odd."""
    parts = [open_cases(students), distribution(students, late_penalty), pass_rates(students), causes(students)]
    parts += [slowest(students), gaps(students), likenesses(likeness), everybody(students, late_penalty)]
    return page(f"{rubric.ASSIGNMENT}: the class", "".join(parts))


def open_cases(students: list[Student]) -> str:
    """How many in each state; those that staff must act on by ID."""
    counts = Counter(student.state for student in students)
    said = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    ids = {state: [one.id for one in students if one.state == state] for state in ("grader error", "not graded yet")}
    alarms = "".join(
        f'<p class="alarm">{clean(state)}, no score and no zero: {clean(", ".join(names))}</p>'
        for state, names in ids.items() if names
    )  # fmt: skip
    if public := sum(one.source == "valid" for one in students):
        alarms += f'<p class="alarm">for {public} of them, {clean(PUBLIC_NOTE)}; --hidden FILE asks others</p>'
    if public := sum(one.has_public_seed for one in students):
        alarms += f'<p class="alarm">for {public} of them, {clean(SEED_NOTE)}</p>'
    for what, names in find_changed(students).items():
        alarms += f'<p class="alarm">{clean(what)}, {len(names)} of {len(students)}: {clean(", ".join(names))}</p>'
    return f'<p class="total">{len(students)} students: {clean(said)}</p>{alarms}'


def distribution(students: list[Student], late_penalty: float) -> str:
    """A histogram of what counts."""
    points = [final for one in students if (final := one.final(late_penalty)) is not None]
    upper = max((one.result.points for one in students if one.result and not one.is_fault), default=1.0)
    mean = f", {sum(points) / len(points):.1f} on average" if points else ""
    return f"<h2>Points{mean}</h2>{charts.histogram(points, upper)}"


def pass_rates(students: list[Student]) -> str:
    """How many pass each check, of those that were not refused as a whole."""
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    judged = [one.result for one in students if one.result and not one.is_fault and not one.result.is_refused]
    for check in (check for result in judged for check in result.checks):
        total[check.name] += 1
        passed[check.name] += check.state is State.PASSED
    rows = [
        (name, passed[name] / total[name], f"{passed[name]} of {total[name]}")
        for name in check_columns(students) if name in total
    ]  # fmt: skip
    return f"<h2>Passed, by check</h2>{charts.bars(rows, 'share of students who pass each check')}"


def causes(students: list[Student]) -> str:
    """The most frequent first causes, with somebody to look at."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in students:
        if cause := one.root_cause:
            said = re.sub(r"'[^']*'|\d[\d.,]*", "…", cause.cause or "fewer points than the full ones")
            found.setdefault((cause.name, said[:160]), []).append(one.id)
    rows = sorted(found.items(), key=lambda item: -len(item[1]))[:10]
    return "<h2>Most frequent causes</h2>" + table(
        ["students", "check", "cause", "for example"],
        [[f"{len(ids)}", name, said, ", ".join(ids[:3])] for (name, said), ids in rows],
    )


def slowest(students: list[Student]) -> str:
    """What took longest to grade."""
    timed = sorted(((one.result.seconds, one.id) for one in students if one.result), key=lambda pair: -pair[0])[:5]
    return "<h2>Slowest</h2>" + table(["ID", "seconds"], [[name, f"{seconds:.1f}"] for seconds, name in timed])


def gaps(students: list[Student]) -> str:
    """Who does better on the public questions than on the official ones; only an official run measures it."""
    found = []
    for one in students:
        measured = one.result.measured if one.result else {}
        if measured.get("public") is not None:
            found.append((measured["public"] - measured["accuracy"], one.id, measured["public"], measured["accuracy"]))
    if not found:
        return "<h2>Public and official questions</h2><p>Not measured: these questions are the public ones.</p>"
    rows = [
        [one, round(public, 3), round(official, 3), round(gap, 3)]
        for gap, one, public, official in sorted(found, reverse=True)[:10]
    ]
    mean = sum(gap for gap, *_ in found) / len(found)
    return (
        f"<h2>Public and official questions, a gap of {mean:+.3f} on average</h2>"
        "<p>A model tuned on the public questions does much better on them.</p>"
        f"{table(['ID', 'public', 'official', 'gap'], rows)}"
    )


def likenesses(found: list[Likeness]) -> str:
    """Who handed in what somebody else has, for a human reader."""
    note = (
        "<p>For a human reader, never a part of a score. Two honest trainings with the same seed, code and machine give the "
        "same weights: ask for the seeds first (CONTRIBUTING.md, Two that look alike).</p>"
    )
    rows = [[len(one.students), one.what, one.detail, ", ".join(one.students)] for one in found]
    return f"<h2>Alike</h2>{note}{table(['students', 'what', 'how', 'IDs'], rows) if rows else '<p>Nothing found.</p>'}"


def everybody(students: list[Student], late_penalty: float) -> str:
    """A line for each student, with the link to the page: the score before and after the penalty, and what counts."""
    names = ("raw", "penalty", "after penalty", "final")
    head = "<th>ID</th><th>state</th>" + "".join(f"<th class=n>{name}</th>" for name in names)
    rows = ""
    for one in students:
        penalty = one.penalty(late_penalty) or None
        points = (one.raw, penalty, one.after_penalty(late_penalty), one.final(late_penalty))
        cells = "".join(f"<td class=n>{'' if value is None else f'{value:g}'}</td>" for value in points)
        rows += (
            f'<tr><td><a href="students/{file_name(one.id)}">{clean(one.id)}</a></td><td>{clean(one.state)}</td>'
            f"{cells}<td>{clean(one.penalty_reason(late_penalty))}</td></tr>"
        )
    return f"<h2>Everybody</h2><table><tr>{head}<th>why</th></tr>{rows}</table>"
