"""Charts as inline SVG: a histogram, bars, and the accuracy between the bounds of the rubric. Nothing is loaded.

histogram([70, 69.5, 12], 70)             # '<svg …>…</svg>', in the colours of the page
"""

from html import escape

from grader.report.text import plain

WIDTH, BAR = 640, 22


def svg(height: float, body: str, title: str) -> str:
    """A chart with a title that a screen reader says."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(plain(title), quote=True)}">'
        f"<title>{escape(plain(title))}</title>{body}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """Words at a place."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{style}">{escape(plain(words, 200))}</text>'


def rect(x: float, y: float, width: float, height: float, style: str) -> str:
    """A filled rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{max(0.0, width):g}" height="{max(0.0, height):g}" class="{style}"/>'


def histogram(values: list[float], upper: float, bins: int = 20) -> str:
    """How many students reached how many points.

    Args:
        values: the points; one above `upper` counts in the last bin.
        upper: the points of a right homework.
        bins: how many.
    """
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value / upper * bins)))] += 1
    height, most, step = 150, max([*counts, 1]), (WIDTH - 20) / bins
    body = ""
    for index, count in enumerate(counts):
        tall = count / most * (height - 20)
        body += rect(10 + index * step + 1, height - tall, step - 2, tall, "bar")
        body += text(10 + (index + 0.5) * step, height - tall - 4, str(count), "middle") if count else ""
    for share in (0, 0.25, 0.5, 0.75, 1):
        body += text(10 + share * (WIDTH - 20), height + 18, f"{upper * share:g}", "middle", "soft")
    body += f'<line x1="10" x2="{WIDTH - 10}" y1="{height}" y2="{height}" class="axis"/>'
    return svg(height + 26, body, f"{len(values)} students by points of {upper:g}")


def bars(rows: list[tuple[str, float, str]], title: str) -> str:
    """Shares as bars: label, share from 0 to 1, and what stands at the end."""
    left, wide = 170, WIDTH - 170 - 130
    body = ""
    for index, (label, share, said) in enumerate(rows):
        y = index * (BAR + 6)
        body += text(left - 8, y + 16, label, "end")
        body += rect(left, y, wide, BAR, "back") + rect(left, y, wide * min(1.0, max(0.0, share)), BAR, "bar")
        body += text(left + wide + 8, y + 16, said)
    return svg(max(1, len(rows)) * (BAR + 6), body, title)


def gauge(value: float, low: float, high: float, zero: float, full: float) -> str:
    """An accuracy with its interval, between the bound of no points and that of all."""

    def at(share: float) -> float:
        return 10 + share * (WIDTH - 20)

    body = rect(at(0), 20, at(1) - at(0), 14, "back") + rect(at(zero), 20, at(full) - at(zero), 14, "half")
    body += rect(at(full), 20, at(1) - at(full), 14, "go")
    body += f'<line x1="{at(low):g}" x2="{at(high):g}" y1="27" y2="27" class="mark"/>'
    body += f'<circle cx="{at(value):g}" cy="27" r="6" class="dot"/>' + text(at(value), 12, f"{value:.3f}", "middle")
    for share, said in ((0.0, "0"), (zero, f"{zero:g}: no points"), (full, f"{full:g}: all points"), (1.0, "1")):
        body += text(at(share), 52, said, "end" if share == full or share == 1 else "start", "soft")
    return svg(60, body, f"accuracy {value:.3f}, 95 % interval {low:.3f} to {high:.3f}")
