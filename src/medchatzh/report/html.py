"""The report as one HTML file: style, charts and all inside it, nothing fetched."""

from __future__ import annotations

from medchatzh.report.charts import Chart, draw
from medchatzh.report.view import Report


def render(report: Report) -> str:
    """The page. Every text is escaped by the template engine; charts escape their own."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def svg(chart: Chart) -> Markup:
        return Markup(draw(chart))

    environment = Environment(
        loader=PackageLoader("medchatzh", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["svg"] = svg
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment.get_template("page.html.j2").render(report=report) + "\n"
