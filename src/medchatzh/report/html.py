"""The report as one HTML file: style, script, charts and all inside it, nothing fetched."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from importlib import resources
from typing import Any

import msgspec

from medchatzh.report.charts import Chart, draw
from medchatzh.report.view import Browser, Report

_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def render(report: Report) -> str:
    """The page. Every text is escaped by the template engine; charts escape their own; the page's script puts text in as text.

    The page's own policy lets no request out and no other script run, whatever the texts of a benchmark or model hold.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def svg(chart: Chart) -> Markup:
        return Markup(draw(chart))

    def data(browser: Browser) -> Markup:
        return Markup(embedded(browser))

    environment = Environment(
        loader=PackageLoader("medchatzh", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"svg": svg, "data": data, "kind": lambda block: type(block).__name__}
    script = (resources.files("medchatzh.report") / "page.js").read_text("utf-8")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(report=report, script=Markup(script), digest=Markup(digest)) + "\n"


def embedded(value: Any) -> str:
    """JSON that may stand in a script element: no text in it can end the element, or open a comment there."""
    return msgspec.json.encode(value).decode().translate(_IN_SCRIPT)
