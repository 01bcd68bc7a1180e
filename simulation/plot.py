"""A picture of a study as SVG: two curves, and the lines that they must not cross.

Blue is the mean over all files of the good shares that are up; dark red is the file that has fewest. Grey lines stand
at n and where repair begins, a red one at k. The x axis is days, the y axis shares.
"""

from collections.abc import Iterator

from shoal.node.care.health import repair_at
from shoal.simulation.report import Report

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 40
DAY_TICKS = 6
GREY, PALE, BLUE, DARK_RED, RED = "#969696", "#e6e6e6", "#1f77b4", "#8c1e1e", "#e63c3c"


def plot(report: Report) -> str:
    """The picture of one study, as the text of an SVG file."""
    parts = "\n".join(_parts(report))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="13" fill="none">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{parts}\n</svg>\n'
    )


def _parts(report: Report) -> Iterator[str]:
    days, most = max(report.plan.days, 1.0), max(report.n, 1)

    def x(day: float) -> float:
        return round(LEFT + day / days * (WIDTH - LEFT - RIGHT), 1)

    def y(shares: float) -> float:
        return round(HEIGHT - BOTTOM - shares / most * (HEIGHT - TOP - BOTTOM), 1)

    for day in range(0, int(days) + 1, max(1, round(days / DAY_TICKS))):
        yield f'<path d="M{x(day)} {y(0)}V{y(most)}" stroke="{PALE}"/>'
        yield f'<text x="{x(day)}" y="{y(0) + 20}" text-anchor="middle" fill="black">{day}</text>'
    for shares in sorted({0, report.k, repair_at(report.k, report.n) if report.n else 0, report.n}):
        yield f'<path d="M{x(0)} {y(shares)}H{x(days)}" stroke="{RED if shares == report.k else GREY}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(shares) + 5}" text-anchor="end" fill="black">{shares}</text>'
    mean = " ".join(f"{x(each.day)},{y(each.mean)}" for each in report.samples)
    least = " ".join(f"{x(each.day)},{y(each.least)}" for each in report.samples)
    yield f'<polyline points="{mean}" stroke="{BLUE}" stroke-width="2"/>'
    yield f'<polyline points="{least}" stroke="{DARK_RED}" stroke-width="2"/>'
