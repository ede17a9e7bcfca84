"""The report as one self-contained HTML page: no script, no font, nothing loaded."""

from html import escape

from grader.report.text import headline, plain
from grader.result import CheckResult, Result

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #5c5c5c; --paper: #fff; --line: #b5b5b5; --go: #0a6b2d; --no: #a3123f; --half: #8a5a00 }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --soft: #aaa; --paper: #161616; --line: #555; --go: #6fdc93; --no: #ff8fab; --half: #ffc34d } }
body { margin: 0 auto; max-width: 48rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { font-size: 1.4rem; overflow-wrap: anywhere } h2 { font-size: 1rem; margin: 0 }
.check { border-left: .35rem solid var(--no); padding: .2rem 0 .2rem .8rem; margin: 1rem 0; overflow-wrap: anywhere }
.passed { border-color: var(--go) } .partial { border-color: var(--half) } .skipped { border-color: var(--line) }
.state { font-weight: 700 } .points { float: right; font-variant-numeric: tabular-nums } dl { margin: .3rem 0; display: grid; grid-template-columns: max-content 1fr; gap: 0 .6rem }
pre { overflow-x: auto; font-size: .85rem; line-height: 1.3; border: 1px solid var(--line); padding: .5rem }
dt { color: var(--soft) } dd { margin: 0 } .total { font-size: 1.2rem; font-weight: 700 } small { color: var(--soft); overflow-wrap: anywhere }
"""


def render(result: Result) -> str:
    """The result as a page."""
    notes = "".join(f"<li>{clean(note)}</li>" for note in result.notes)
    facts = {"submission": result.sha256, **result.provenance}
    return page(
        "Grading report",
        result.submission,
        f'<p class="total">{clean(headline(result))}</p>{f"<ul>{notes}</ul>" if notes else ""}'
        f"{''.join(map(render_check, result.checks))}<p><small>{clean(str(facts))}</small></p>",
    )


def page(title: str, heading: str, body: str, more_style: str = "") -> str:
    """A page that stands alone; a browser loads nothing for it, whatever stands in it."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{clean(title)}</title><style>{STYLE}{more_style}</style></head><body><h1>{clean(heading)}</h1>{body}"
        "</body></html>\n"
    )


def render_check(check: CheckResult) -> str:
    """One check as a block: state in words, the cause first."""
    pairs = (("expected", check.expected), ("actual", check.actual), ("do", check.do))
    rows = "".join(f"<dt>{label}</dt><dd>{clean(text)}</dd>" for label, text in pairs if text)
    said = f"<p>{clean(check.cause or check.detail)}</p>" if check.cause or check.detail else ""
    shown = f"<pre>{clean(check.shown)}</pre>" if check.shown else ""
    return (
        f'<section class="check {clean(str(check.state))}"><h2><span class="points">{check.score:g} / {check.points:g}</span>'
        f'<span class="state">{clean(str(check.state))}</span> {clean(check.name)}</h2>'
        f"<div>{clean(check.title)}</div>{said}{f'<dl>{rows}</dl>' if rows else ''}{shown}</section>"
    )


def clean(text: str) -> str:
    """A text for HTML: neutralised, then escaped."""
    return escape(plain(text))
