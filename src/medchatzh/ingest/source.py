"""What a recipe says of one raw data set."""

from __future__ import annotations

import codecs
import difflib
import re
from pathlib import PurePosixPath

import msgspec

from medchatzh.recipe import Settings
from medchatzh.records import Pool

TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "xlsx")
COLUMNS = ("question", "answer", "category", "system", "id")


class Source(Settings, frozen=True, kw_only=True):
    """Raw files of one kind, and how to read them."""

    name: str
    """Short name; record ids begin with it."""
    path: str
    """Glob below data.root, '/'-separated; `**` stands for any folders. It may match many files, and archives (zip, tar, gz, xz, bz2; zips
    in zips too)."""
    format: str = "auto"
    """A format's name, or the name of a data set in it (belle, cmedqa2, huatuo26m …); `auto` tells it by content, file by file, and in
    JSON and tables record by record."""
    pool: Pool = "medical"
    """The instruction pool its dialogues belong to; the recipe mixes the pools."""
    category: str = ""
    """Category of the records that have none of their own."""
    licence: str = ""
    """Under which licence the data may be used, as its publisher states it; dataset cards show it."""
    encoding: str = ""
    """Codec name for files without a byte-order mark that are not UTF-8; '' tells GB18030, Big5 and UTF-16 by itself."""
    limit: int = 0
    """Stop after so many kept records; 0 for all."""
    columns: dict[str, str] = msgspec.field(default_factory=dict)
    """For auto and csv, tsv, json, jsonl, parquet, xlsx: question, answer, category, system or (of a benchmark) id → the column (key) that
    holds it. Without it a table's columns tell its form as the keys of a JSON record do."""
    benchmark: bool = False
    """Its dialogues are questions to evaluate on, whatever their format: the last answer (or list of answers) is the reference, the turns
    before the last question are its history. They are never trained on. The formats webmedqa and cmedqa2_test are benchmarks anyway."""

    def __post_init__(self) -> None:
        from medchatzh.ingest.formats import ALIASES, FORMATS

        known = {*FORMATS, *ALIASES}
        where = f"source {self.name!r}"
        if not re.fullmatch(r"[^\s:!/]+", self.name):
            raise ValueError(f"{where}: a name has no spaces, colons, slashes or '!'; ids are written name:row")
        if not self.path or PurePosixPath(self.path).is_absolute() or ".." in PurePosixPath(self.path).parts:
            raise ValueError(f"{where}: path {self.path!r}: write a glob below data.root, for example medical/*.jsonl")
        if self.format not in ("auto", *known):
            near = difflib.get_close_matches(self.format, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: auto, {', '.join(sorted(known))}"
            raise ValueError(f"{where}: unknown format {self.format!r}; {hint}")
        if self.limit < 0:
            raise ValueError(f"{where}: limit is {self.limit}; write 0 for all records, or a positive number")
        self._check_columns(where)
        if self.encoding:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise ValueError(f"{where}: unknown encoding {self.encoding!r}; write gb18030, big5, or '' to detect") from None

    def _check_columns(self, where: str) -> None:
        if unknown := set(self.columns) - set(COLUMNS):
            raise ValueError(f"{where}: columns.{min(unknown)}: known here: {', '.join(COLUMNS)}")
        if self.columns and not {"question", "answer"} <= self.columns.keys():
            raise ValueError(f'{where}: columns names {", ".join(self.columns)}; write columns = {{ question = "…", answer = "…" }}')
        if self.columns and self.format not in ("auto", *TABLES):
            raise ValueError(f"{where}: columns are read by the formats auto, {', '.join(TABLES)}; format is {self.format}")
