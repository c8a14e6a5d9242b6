"""What curation kept of each source, and which rule dropped the rest, as Markdown tables.

python benchmarks/curation/retention.py "at the recipe's thresholds=runs/public-data/curate-…" "at the defaults=…"
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any


def table(sources: dict[str, Any]) -> str:
    """Sources by reason; the reason that dropped most comes first."""
    totals = sum((Counter(counts["dropped"]) for counts in sources.values()), Counter[str]())
    reasons = [reason for reason, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0]))]
    whole = {name: sum(counts[name] for counts in sources.values()) for name in ("num_in", "num_out")} | {"dropped": totals}
    rows = [f"| source | in | kept | {' | '.join(reasons)} |", "|---" * (len(reasons) + 3) + "|"]
    for name, counts in {**sources, "**all**": whole}.items():
        kept = f"{counts['num_out']:,} ({counts['num_out'] / counts['num_in']:.0%})"
        dropped = [f"{number:,}" if (number := counts["dropped"].get(reason)) else "" for reason in reasons]
        rows.append(f"| {name} | {counts['num_in']:,} | {' | '.join([kept, *dropped])} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="TITLE=FOLDER", help="a title and a curate stage's folder")
    for given in parser.parse_args().runs:
        title, _, folder = given.rpartition("=")
        manifest = json.loads((Path(folder) / "manifest.json").read_text("utf-8"))
        print(f"### {title[0].upper()}{title[1:]}\n\n{table(manifest['facts']['by_source'])}\n")


if __name__ == "__main__":
    main()
