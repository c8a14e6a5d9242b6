"""What happened to a record, read from the files that the stages left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from medchatzh.curate import Config
from medchatzh.curate.benchmark import Benchmark
from medchatzh.explain import files
from medchatzh.explain.files import Folder, Folders, Hit
from medchatzh.explain.judge import Judgement, excerpt, judge, masked_place, private, visible
from medchatzh.explain.story import Other, Step, Story
from medchatzh.records import Dialogue, Document, Pool, Preference, Question, Record, Reject, Score, Turn, read
from medchatzh.report.quotes import transcript

_CHARS = 300
_ROW = re.compile(r"[^\s，。！？；：]+:[^\s，。！？；：:]+")
_KINDS: dict[str, type[Record]] = {
    **dict.fromkeys(("dialogues", "medical", "general"), Dialogue),
    **dict.fromkeys(("books", "documents"), Document),
    "questions": Question,
    "preferences": Preference,
    "rejects": Reject,
}
_INGESTED = ("dialogues", "rejects", "books", "preferences", "questions")
_PLACES = {"ingest": _INGESTED, "books": ("documents", "rejects"), "curate": ("medical", "general", "rejects")}
"""Where a record is looked for, in this order: what ingest made, else chapters of books, else what curation holds."""
_STAND_IN = "请问怎么办？"
"""The question of a text that came without one: it shares nothing with any answer, and asks for nothing in particular."""
_DUPLICATES = ("exact_duplicate", "near_duplicate", "same_question")


class Tracer:
    """Tells the stories of records of one run. `verbose` lists the rules that a record passed, too."""

    def __init__(self, folders: Folders, *, verbose: bool = False) -> None:
        self._folders, self._verbose = folders, verbose

    def find(self, query: str) -> list[Hit]:
        """The records that a query names, each once."""
        for name in self._known():
            if f"/{name}" in query:  # a path as the shell completes it
                query = query[query.index(f"/{name}") + 1 :]
        places = [(stage, name) for stage, names in _PLACES.items() if stage in self._folders for name in names]
        if query.partition(":")[0] in files.sources(self._folders):  # ids are unique: the first is the only one
            for stage, name in places:
                path = self._folders[stage].file(name)
                if line := files.line_of(path, query):
                    return [Hit(files.Head(query), path, line)]
        for stage in _PLACES:
            paths = [self._folders[stage].file(name) for of, name in places if of == stage]
            if hits := {hit.head.id: hit for hit in files.search(paths, query)}:
                return list(hits.values())
        return []

    def near(self, query: str) -> list[str]:
        """What a query that names nothing may have meant."""
        paths = (folder.file(name) for stage, folder in self._folders.items() for name in _PLACES.get(stage, ()) if stage != "curate")
        return files.suggestions(paths, query, self._known())

    def _known(self) -> list[str]:
        """Names of sources and of raw files."""
        ingest = self._folders.get("ingest")
        return [*files.sources(self._folders), *(ingest.manifest.files if ingest else ())]

    def names_row(self, query: str) -> bool:
        """Whether a query is an id or FILE:LINE and no text: it begins with a source, has the name of a raw file, or has no blank."""
        name = query.rpartition(":")[0]
        known = self._known()
        if query.partition(":")[0] in known or any(name and (name in other or other in name) for other in known):
            return "\n" not in query
        return _ROW.fullmatch(query) is not None

    def story(self, hit: Hit) -> Story:
        """All that happened to the record of a hit."""
        record = msgspec.json.decode(hit.line, type=_KINDS[hit.path.stem])
        match record:
            case Reject():
                return self._rejected(record)
            case Dialogue():
                return _story(record, "dialogue", record.pool, [*self._read(record), *self._curated(record)])
            case Document() if hit.path.stem == "documents":
                bare = msgspec.structs.replace(record, edits=())
                return _story(record, "chapter", "", [*self._read(bare), *_chapters([record], [])])
            case Document():
                return _story(record, "book", "", [*self._read(record), *self._chapters(record)])
            case Question():
                step = Step("evaluate", "used", notes=("评测题 / a benchmark question",))
                return _story(record, "question", "", [*self._read(record), step])
            case Preference():
                step = Step("reward", "used", notes=("偏好排序 / a ranking for the reward model",))
                return _story(record, "preference", "", [*self._read(record), step])
        raise AssertionError(f"{hit.path}: no kind of record is known to lie there")

    def _rejected(self, reject: Reject) -> Story:
        """The story of what stands in some stage's rejects, as far as that is all that is known."""
        step = Step(reject.stage, "dropped", reject.reason, private(reject.detail))
        return Story(reject.id, "row", reject.source, reject.origin, text=_short(reject.record), steps=(step,))

    def _read(self, record: Record) -> Iterator[Step]:
        if "ingest" not in self._folders:
            return
        of_source = self._folders["ingest"].manifest.facts.get("sources", {}).get(record.source, {})
        edits = getattr(record, "edits", ())
        notes = [f"格式 / format {of_source['format']}"] if of_source.get("format") else []
        notes += [f"编码 / encoding {'、'.join(of_source['encodings'])}"] if of_source.get("encodings") else []
        notes += [f"{len(record.turns)} 个话轮 / turns"] if isinstance(record, Dialogue) else []
        notes += [f"读入时 / edited: {', '.join(edits)}"] if edits else []
        yield Step("ingest", "kept", notes=tuple(notes))

    def _curated(self, record: Dialogue) -> Iterator[Step]:
        folder = self._folders.get("curate")
        if folder is None:
            return
        reject = _decoded(folder, "rejects", record.id, Reject)
        if reject is None and (kept := _decoded(folder, record.pool, record.id, Dialogue)) is None:
            yield Step("curate", "unknown", notes=("清洗的文件里没有它 / it stands in none of curation's files",))
            return
        judged, notes = self._judged(record)
        edits, checks = (judged.edits, judged.checks if self._verbose else ()) if judged else ((), ())
        if reject is None:
            notes += (f"修补 / repaired: {', '.join(kept.edits)}",) if kept.edits and not edits else ()
            yield Step("curate", "kept", edits=edits, checks=checks, notes=notes)
            yield from self._scored(record)
            return
        check = next((check for check in judged.checks if check.rule == reject.reason), None) if judged else None
        yield Step(
            "curate",
            "dropped",
            reject.reason,
            reject.detail,
            thresholds=check.thresholds if check else _limits(folder, reject.reason),
            excerpt=_seen(judged, reject.reason, reject.span) if judged else "",
            edits=edits,
            checks=checks,
            other=self._other(reject, folder),
            notes=notes,
        )

    def _judged(self, record: Dialogue) -> tuple[Judgement | None, tuple[str, ...]]:
        """Curation of the record once more, for what its files do not tell; nothing and a note where the folder is of another version."""
        try:
            config = files.config(self._folders)
        except ValueError as error:
            return None, (f"修补与阈值从略 / repairs and thresholds left out: {error}",)
        return judge(record, config, self._boilerplate()), ()

    def _boilerplate(self) -> frozenset[str]:
        folder = self._folders.get("curate")
        return frozenset(sentence for sentence, _ in folder.manifest.facts.get("boilerplate", ())) if folder else frozenset()

    def judged_text(self, text: str, question: str, pool: Pool, config: Config) -> Story:
        """What curation would make of a text as an answer. Duplicates and the reward are not looked at."""
        record = Dialogue(id="—", turns=(Turn("user", question or _STAND_IN), Turn("assistant", text)), pool=pool)
        judged = judge(record, config, self._boilerplate())
        fired = next((check for check in judged.checks if check.seen), None)
        ingest = self._folders.get("ingest")
        notes = ["没有查重，也没有打奖励分 / duplicates and reward are not looked at"]
        if not question:
            notes.append("没有给出问题，看问题的规则不作准 / no question was given: rules that look at it cannot tell")
        other = None
        if fired is None and ingest and ingest.file("questions").exists():
            match = Benchmark(read(ingest.file("questions"), Question), config.decontamination).match(judged.record)
            other = self._leaked(str(match)) if match else None
        elif fired is None:
            notes.append("没有评测题可比 / no benchmark to compare with")
        step = Step(
            "curate",
            "dropped" if fired or other else "kept",
            fired.rule if fired else "in_benchmark" if other else "",
            fired.seen if fired else "",
            fired.thresholds if fired else {},
            _seen(judged, fired.rule) if fired else "",
            judged.edits,
            judged.checks if self._verbose else tuple(check for check in judged.checks if check.seen and check is not fired),
            other,
            tuple(notes),
        )
        return _story(record, "text", record.pool, [step])

    def _other(self, reject: Reject, folder: Folder) -> Other | None:
        """The record that a duplicate repeats, or the benchmark question that a leak gives away, as the reject's detail names it."""
        if reject.reason in _DUPLICATES:
            identifier, similarity = _near(reject) if reject.reason == "near_duplicate" else (reject.detail, None)
            for name in ("medical", "general"):
                if (keeper := _decoded(folder, name, identifier, Dialogue)) is not None:
                    return Other(identifier, "keeper", _short(keeper), similarity, "kept")
            later = _decoded(folder, "rejects", identifier, Reject)
            return Other(identifier, "keeper", _short(later.record) if later else "", similarity, later.reason if later else "")
        return self._leaked(reject.detail) if reject.reason == "in_benchmark" else None

    def _leaked(self, detail: str) -> Other:
        """The benchmark question of a match: `id exact`, `id near 0.912`."""
        identifier, _, how = detail.partition(" ")
        ingest = self._folders.get("ingest")
        question = _decoded(ingest, "questions", identifier, Question) if ingest else None
        words = [f"问：{question.question}", *(f"答：{text}" for text in question.references[:1])] if question else []
        return Other(identifier, "benchmark question", visible(private("\n".join(words)))[:_CHARS], fate=how)

    def _scored(self, record: Dialogue) -> Iterator[Step]:
        folder = self._folders.get("score")
        if folder is not None and record.pool == "medical":
            facts = folder.manifest.facts
            threshold: dict[str, object] = {"threshold": facts["threshold"]} if "threshold" in facts else {}
            notes = (f"奖励模型 / reward model {facts['reward_fingerprint']}",) if facts.get("reward_fingerprint") else ()
            score = _decoded(folder, "scores", record.id, Score)
            if reject := _decoded(folder, "rejects", record.id, Reject):
                yield Step("score", "dropped", reject.reason, reject.detail, threshold, notes=notes)
                return
            if facts.get("kind") == "none":
                yield Step("score", "kept", detail="没有奖励筛选 / not filtered by a reward")
            elif score is not None:
                yield Step("score", "kept", detail=f"reward {score.value:.4f}", thresholds=threshold, notes=notes)
        yield from self._mixed(record)

    def _mixed(self, record: Dialogue) -> Iterator[Step]:
        part = ""
        if folder := self._folders.get("mix"):
            part = next((name for name in ("train", "validation") if files.line_of(folder.file(name), record.id) is not None), "")
            if not part:
                reject = _decoded(folder, "rejects", record.id, Reject)
                detail = "配比未选 / not drawn by the proportions" if reject is None else reject.detail
                yield Step("mix", "dropped", reject.reason if reject else "", detail)
                return
            yield Step("mix", "kept", detail={"train": "训练 / train", "validation": "验证 / validation"}[part])
        if folder := self._folders.get("sft"):
            if record.pool not in folder.manifest.config.get("pools", (record.pool,)):
                yield Step("sft", "set aside", detail=f"pools = {', '.join(folder.manifest.config['pools'])}")
            else:
                yield Step("sft", "used", detail={"train": "用于训练 / trained on", "validation": "用于验证 / measured on"}.get(part, ""))

    def _chapters(self, book: Document) -> Iterator[Step]:
        folder = self._folders.get("books")
        if folder is None:
            return
        kept = [msgspec.json.decode(line, type=Document) for line in files.lines_from(folder.file("documents"), book.origin)]
        rejects = [msgspec.json.decode(line, type=Reject) for line in files.lines_from(folder.file("rejects"), book.origin)]
        yield from _chapters(kept, rejects)


def _chapters(kept: Sequence[Document], rejects: Sequence[Reject]) -> Iterator[Step]:
    """What became of the chapters of a book."""
    notes = [f"✓ {chapter.id}  {chapter.chapter or '—'}（{len(chapter.text):,} 字）{', '.join(chapter.edits)}".rstrip() for chapter in kept]
    notes += [f"✗ {reject.id}  {reject.reason}: {private(reject.detail)}" for reject in rejects]
    detail = f"{len(kept)} 章留 / kept, {len(rejects)} 舍 / dropped"
    yield Step("books", "kept" if kept else "dropped", detail=detail, notes=tuple(notes))


def _limits(folder: Folder, reason: str) -> dict[str, object]:
    """The settings by which a near duplicate or a leak is told."""
    section = {"near_duplicate": "duplicates", "in_benchmark": "decontamination"}.get(reason, "")
    found = folder.manifest.config.get(section)
    names = ("min_similarity", "gram_chars", "min_containment")
    return {name: found[name] for name in names if name in found} if isinstance(found, dict) else {}


def _seen(judged: Judgement, reason: str, span: tuple[int, int, int] | None = None) -> str:
    """The text around what the rule saw."""
    if found := judged.spans.get(reason) or span:  # the span of a masked record is that of its masks
        return excerpt(judged, found)
    places = (masked_place(turn.content, judged.known) for turn in judged.record.turns) if reason == "personal_data" else ()
    return next(filter(None, places), "")


def _short(record: Any) -> str:
    """The text of a record, shortened, personal data masked."""
    shown = visible(private(transcript(msgspec.to_builtins(record))[0]))
    return shown if len(shown) <= _CHARS else shown[:_CHARS] + "…"


def _story(record: Record, kind: str, pool: str, steps: list[Step]) -> Story:
    return Story(record.id, kind, record.source, record.origin, pool, _short(record), tuple(steps))


def _decoded(folder: Folder, name: str, identifier: str, kind: type[Any]) -> Any:
    line = files.line_of(folder.file(name), identifier)
    return None if line is None else msgspec.json.decode(line, type=kind)


def _near(reject: Reject) -> tuple[str, float | None]:
    """(keeper's id, similarity) of a near duplicate's detail: `clinic:7 0.874`."""
    identifier, _, similarity = reject.detail.rpartition(" ")
    return identifier, float(similarity)
