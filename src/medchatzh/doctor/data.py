"""Checks of the data: raw files by a sample, and the mix where a run has made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from medchatzh import prompt
from medchatzh.benchmarks import split_of
from medchatzh.doctor.finding import Seen, check
from medchatzh.doctor.sample import Estimate, fit, lines, texts
from medchatzh.prompt import IGNORE_INDEX
from medchatzh.records import Dialogue, Document, Preference, Question, Record, Reject, normalize

if TYPE_CHECKING:
    from medchatzh.doctor.subject import Subject

MAX_REJECTED = 0.5
"""Share of a source's sampled rows that may be set aside: 41 % of BELLE's evaluation set have no answer, as its publishers mean it."""
MAX_DROPPED = 0.2
"""Share of exchanges that may be too long for a row."""
MAX_ENCODED = 500
"""Dialogues; a second where they have many turns."""
_DELIBERATE = ("negative_pair", "not_in_split", "no_preference", "too_few_answers", "repeated_id")
"""Reasons of ingest that tell of no fault of the file."""
_END = '。！？!?.…；;）)”"』」》>*~～:：'
_GARBLED = ("锟斤拷", "烫烫烫", "屯屯屯", "\ufffd\ufffd", "ï»¿", "â€", "Ã¤", "Ã©", "ä¸", "çš„", "é—®")


@check("数据源的文件找不到或读不出", "按提示改 path、format 或 encoding")
def sources(subject: Subject) -> Iterator[Seen]:
    """A source without files, without records, or of whose rows most are set aside; the commonest reason is named."""
    if subject.root is None:
        yield "error", "data.root", f"{subject.recipe.data.root} is not a folder", "give one with --set data.root=FOLDER"
    elif not subject.sources:
        yield "error", "ingest.sources", "is empty", "add at least one [[ingest.sources]] with name and path"
    for source in subject.sources:
        where = f"ingest.sources.{source.source.name} ({source.source.path})"
        if source.problem:
            yield "error", where, source.problem, "correct its path, or data.root"
        elif source.is_skipped:
            yield "note", where, "not looked at: there was no time for it", "medchatzh ingest RECIPE reads all of it"
        elif rejects := [reject for reject in source.of(Reject) if reject.reason not in _DELIBERATE]:
            (reason, count), *_ = Counter(reject.reason for reject in rejects).most_common(1)
            detail = next(reject.detail for reject in rejects if reject.reason == reason)
            what = f"{len(rejects)} of the first {len(source.records)} rows are set aside, {count} as {reason} ({detail[:120]})"
            if len(rejects) == len(source.records):
                yield "error", where, what, "name the source's format, columns or encoding (docs/data.md)"
            elif len(rejects) > MAX_REJECTED * len(source.records):
                yield "warning", where, what, "name the source's format, columns or encoding (docs/data.md)"


@check("缺少某类数据，后面的阶段会停下", "按提示补充数据源")
def kinds(subject: Subject) -> Iterator[Seen]:
    """No source holds dialogues, books, rankings or benchmark questions, and a stage needs them."""
    if not subject.sources or any(source.is_skipped or source.problem for source in subject.sources):
        return
    recipe = subject.recipe
    needed: dict[type[Record], tuple[str, str]] = {Dialogue: ("dialogues", "alpaca"), Document: ("books", "book")}
    if recipe.score.kind != "none":
        needed[Preference] = ("rankings", "rankings")
    for kind, (name, example) in needed.items():
        if not subject.raw(kind):
            yield "error", "ingest.sources", f"no {name} in any source", f'add a source (format = "{example}", say)'
    if not subject.raw(Question):
        what = "no benchmark question in any source: medchatzh run stops there, sft alone does not"
        yield "warning", "ingest.sources", what, "add a source with benchmark = true"


@check("指令池为空", "给来源设 pool，或从 sft.pools 中去掉")
def pools(subject: Subject) -> Iterator[Seen]:
    """SFT is to learn from a pool of which there is no source, or no dialogue."""
    there = {source.source.pool for source in subject.sources}
    filled = {dialogue.pool for dialogue in subject.raw(Dialogue)}
    if not subject.recipe.sft.pools:
        yield "error", "sft.pools", "is empty", 'write at least one of "general", "medical"'
    for pool in subject.recipe.sft.pools if subject.sources else ():
        if pool not in there:
            yield "error", "sft.pools", f"no source is of pool {pool!r}", f'set pool = "{pool}" for a source, or leave it out'
        elif pool not in filled and not any(source.is_skipped for source in subject.sources):
            yield "error", "sft.pools", f"the sources of pool {pool!r} hold no dialogue", "look at their path and format"


@check("文本乱码", "在该来源写明 encoding（gb18030、big5 …），或换未损坏的文件")
def garbled(subject: Subject) -> Iterator[Seen]:
    """Texts garbled by a wrong encoding before they came here (锟斤拷, 鍙傝€冿紝, æ¯å¤©): valid, so that no reader objects."""
    for source in subject.sources:
        written = ["\n".join(texts(record)) for record in source.records if not isinstance(record, Reject)]
        found = [text for text in written if is_garbled(text)]
        if len(found) > max(1, 0.02 * len(written)):
            shown = found[0].strip()[:24]
            what = f"{len(found)} of {len(written)} sampled records are garbled, such as {shown!r}"
            yield "warning", f"ingest.sources.{source.source.name}", what, "get the file anew, or name its encoding"


def is_garbled(text: str) -> bool:
    """Whether a text shows the marks of a wrong decoding. UTF-8 read as GBK turns `，。` into `锛` and `銆`, which hardly occur."""
    if any(mark in text for mark in _GARBLED):
        return True
    return text.count("锛") + text.count("銆") > max(1, len(text) // 100)


@check("验证集与训练集有相同的问题", "重新划分：按问题留出")
def leaking_validation(subject: Subject) -> Iterator[Seen]:
    """The same question stands on both sides of the mix, or the validation file is the training file."""
    if not subject.mix:
        return
    train = {normalize(dialogue.question) for dialogue in lines(subject.mix / "train.jsonl", Dialogue)}
    validation = [normalize(dialogue.question) for dialogue in lines(subject.mix / "validation.jsonl", Dialogue)]
    both = sum(question in train for question in validation)
    if both:
        whole = "; they are the same file" if both == len(validation) == len(train) else ""
        what = f"{both} of {len(validation)} validation questions are trained on{whole}"
        yield "error", str(subject.mix / "validation.jsonl"), what, "delete the mix folder, and let medchatzh mix split by question"
    if train and not validation and subject.recipe.mix.validation_share:
        yield "warning", str(subject.mix / "validation.jsonl"), "holds no record", "raise mix.validation_share"


@check("评测题混入训练数据", "删去该来源，或把评测集列入 ingest.sources（benchmark = true）以便去污染")
def benchmark_leak(subject: Subject) -> Iterator[Seen]:
    """Benchmark questions stand in the mix; or a file that is called a test set is read as training data, so that nothing removes it."""
    asked = {normalize(question.opening) for question in subject.questions}
    if subject.mix:
        found = sum(normalize(dialogue.question) in asked for dialogue in lines(subject.mix / "train.jsonl", Dialogue))
        if found:
            what = f"{found} records ask a question of the benchmark"
            yield "error", str(subject.mix / "train.jsonl"), what, "delete the folders of curate and mix, and run them again"
    for source in subject.sources:
        origin = next((record.origin for record in source.of(Dialogue) if split_of(record.origin) == "test"), "")
        is_covered = any(fnmatch(source.source.path, other.source.path) and other.of(Question) for other in subject.sources)
        if origin and not source.source.benchmark and not is_covered:
            what = f"{origin.rpartition(':')[0]} is called a test set, and is read as training data"
            yield "warning", f"ingest.sources.{source.source.name}", what, "leave it out, or set benchmark = true"


@check("关闭了去重而数据重复", "打开 curate.duplicates.exact")
def duplicates(subject: Subject) -> Iterator[Seen]:
    """Records that repeat word for word, and curation is told to keep them: they are learnt by heart, and counted twice."""
    if subject.recipe.curate.duplicates.exact:
        return
    written = ["\n".join(texts(dialogue)) for dialogue in subject.raw(Dialogue)]
    again = len(written) - len(set(written))
    if again > 0.01 * len(written):
        what = f"{again} of {len(written)} sampled records repeat another word for word"
        yield "warning", "curate.duplicates.exact", what, "set it to true"


@check("轮次不交替或没有回答，标签全被屏蔽", "修正数据：user 与 assistant 交替，以回答结尾")
def masked_labels(subject: Subject) -> Iterator[Seen]:
    """Records without an answer, or with empty ones: every label is masked, or EOS alone is left to learn."""
    broken = empty = 0
    example = ""
    for dialogue in subject.dialogues:
        try:
            prompt.check(dialogue.turns, answered=True)
        except ValueError as error:
            broken += 1
            example = example or f"{dialogue.id}: {error}"
            continue
        empty += not any(answer.strip() for answer in dialogue.answers)
    if broken:
        what = f"{broken} records cannot be trained on ({example})"
        yield "error", subject.dialogues_from, what, "let medchatzh ingest and curate make the file"
    if empty:
        what = f"{empty} of {len(subject.dialogues)} records have empty answers: nothing but EOS is learnt from them"
        yield "warning", subject.dialogues_from, what, "drop them, or name the column that holds the answer"


@check("对话超过行长而被丢弃", "增大 row_tokens")
def too_long(subject: Subject) -> Iterator[Seen]:
    """A large share of the exchanges is longer than sft.row_tokens, and dropped whole (an answer is never cut: that would cut its EOS)."""
    if "sft" not in subject.training:
        return
    fitted = fit(_sound(subject), subject.tokenizer or Estimate(), subject.template, subject.recipe.sft.row_tokens)
    if not fitted.num_exchanges:
        return
    share = fitted.num_dropped / fitted.num_exchanges
    about = "" if subject.tokenizer else " (estimated, before there is a tokenizer)"
    what = f"{share:.0%} of the exchanges are longer than {subject.recipe.sft.row_tokens} tokens, and are left out{about}"
    if share == 1:
        yield "error", "sft.row_tokens", what, "raise it"
    elif share > MAX_DROPPED:
        yield "warning", "sft.row_tokens", what, "raise it, or leave out the sources with long answers"


@check("排序样本超过行长", "增大 reward.row_tokens")
def rankings_too_long(subject: Subject) -> Iterator[Seen]:
    """A large share of the ranked answers is longer than reward.row_tokens, and dropped."""
    preferences = subject.raw(Preference)
    if "reward" not in subject.training or not preferences:
        return
    tokenizer = subject.tokenizer or Estimate()
    lengths = [
        len(prompt.encode((*preference.prompt, prompt.Turn("assistant", answer)), tokenizer, subject.template).input_ids)
        for preference in preferences
        for answer in preference.answers
    ]
    share = sum(length > subject.recipe.reward.row_tokens for length in lengths) / len(lengths)
    if share > MAX_DROPPED:
        what = f"{share:.0%} of the ranked answers are longer than {subject.recipe.reward.row_tokens} tokens, and are left out"
        yield "error" if share == 1 else "warning", "reward.row_tokens", what, "raise it"


def _sound(subject: Subject) -> Iterator[Dialogue]:
    """Those to encode: at most `MAX_ENCODED`, evenly from all, since sources stand one after the other."""
    for dialogue in subject.dialogues[:: -(-len(subject.dialogues) // MAX_ENCODED) or 1]:
        if dialogue.answers and dialogue.turns[-1].role == "assistant":
            yield dialogue


@check("标签里的 EOS 不是每个回答一个", "换用配套的快速分词器，检查 eos_token")
def eos_learnt(subject: Subject) -> Iterator[Seen]:
    """In the labels of a sample EOS does not stand once for each answer: the model would not learn to stop, or stop anywhere."""
    if subject.tokenizer is None or "sft" not in subject.training:
        return
    eos = subject.tokenizer.eos_token_id
    fitted = fit(list(_sound(subject))[:200], subject.tokenizer, subject.template, subject.recipe.sft.row_tokens)
    found = sum(label == eos for example in fitted.examples for label in example.labels)
    wanted = fitted.num_exchanges - fitted.num_dropped
    if found != wanted:
        what = f"{found} EOS labels for {wanted} answers"
        yield "error", "tokenizer.path", what, "look at eos_token, and for the EOS text inside of answers"
    if fitted.examples and not any(label != IGNORE_INDEX for example in fitted.examples for label in example.labels):
        yield "error", "tokenizer.template", "every label of the sample is masked", "correct the template"


@check("回答被截断，模型会学着说半句或停不下来", "换未截断的数据，或打开规则 cut_off")
def cut_answers(subject: Subject) -> Iterator[Seen]:
    """Many answers have exactly the length of the longest and end in mid-sentence: they were cut, and an EOS behind them teaches stopping
    early."""
    for source in subject.sources:
        answers = [answer.rstrip() for dialogue in source.of(Dialogue) for answer in dialogue.answers]
        longest = max(map(len, answers), default=0)
        cut = [answer for answer in answers if len(answer) >= longest - 1 and answer[-1:] not in _END]
        if longest >= 20 and len(cut) >= max(3, 0.03 * len(answers)):
            what = f"{len(cut)} of {len(answers)} sampled answers stop after {longest} characters, in mid-sentence"
            yield "warning", f"ingest.sources.{source.source.name}", what, "get the data uncut, or drop answers of that length"


@check("生成上限短于多数参考回答", "增大 generate.decoding.max_new_tokens")
def short_generation(subject: Subject) -> Iterator[Seen]:
    """More than a third of the benchmark's references are longer than the model may write: every answer is cut, and no score means much."""
    questions = subject.raw(Question)
    tokenizer = subject.tokenizer or Estimate()
    bound = subject.recipe.generate.decoding.max_new_tokens
    references = [reference for question in questions for reference in question.references[:1]]
    counts = [len(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) for text in references]
    share = sum(count > bound for count in counts) / max(1, len(counts))
    if share > 1 / 3:
        what = f"{share:.0%} of the references are longer than {bound} tokens"
        yield "warning", "generate.decoding.max_new_tokens", what, f"set it to about {sorted(counts)[int(0.95 * len(counts))]}"


@check("偏好数据没有可比的对", "检查 rank / chosen / rejected 字段")
def preference_pairs(subject: Subject) -> Iterator[Seen]:
    """Rankings of ties alone, or with a single answer: no pair to learn from."""
    if "reward" not in subject.training:
        return
    for source in subject.sources:
        ties = [reject for reject in source.of(Reject) if reject.reason in ("no_preference", "too_few_answers")]
        usable = [preference for preference in source.of(Preference) if any(preference.pairs())]
        unusable = len(ties) + len(source.of(Preference)) - len(usable)
        if unusable > len(usable):
            what = f"{unusable} of {unusable + len(usable)} sampled rankings hold no pair (ties, or one answer)"
            yield "warning" if usable else "error", f"ingest.sources.{source.source.name}", what, "look at its ranks"


@check("偏好数据的分组缺失，会泄漏到验证集", "给同一病例的排序写相同的 id")
def preference_groups(subject: Subject) -> Iterator[Seen]:
    """One question's rankings are in different groups, so that the same case falls on both sides of reward.held_out."""
    if "reward" not in subject.training:
        return
    groups: dict[str, set[str]] = {}
    for preference in subject.raw(Preference):
        asked = normalize("".join(turn.content for turn in preference.prompt))
        groups.setdefault(asked, set()).add(preference.group or preference.id)
    split = sum(len(found) > 1 for found in groups.values())
    if split > 0.02 * len(groups):
        what = f"{split} of {len(groups)} sampled questions are ranked in several groups"
        yield "warning", "ingest.sources", what, "give the rankings of one case the same id: it is their group"
