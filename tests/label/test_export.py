"""Verdicts → rankings that a recipe reads, and the report on them."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.ingest.source import Source
from medchatzh.ingest.units import Tally, read_source
from medchatzh.label.export import aggregate, beside, export
from medchatzh.label.report import markdown, report
from medchatzh.label.session import Session
from medchatzh.label.tasks import Candidate, Task, key_of, load
from medchatzh.label.verdicts import Verdict, ranks_of
from medchatzh.records import Preference, Reject, Turn, read


def rank_all(folder, labeller, judge):
    """`judge(task)` gives the ranks by candidate, or a reason to skip."""
    session = Session(folder, labeller)
    for task in session.queue:
        said = judge(task)
        if isinstance(said, str):
            session.save(task, [], skip=said)
        elif said:
            session.save(task, [said[number] for number in session.shown(task)])
    session.close()


def quality(task):
    """By source: record, alpha, and the two others tied."""
    return ranks_of([{"record": 1, "alpha": 2}.get(candidate.sources[0], 3) for candidate in task.candidates])


def ingested(path):
    source = Source(name="ours", path="*", format="rankings")
    return list(read_source(source, {path.name: path}, Tally()))


def test_ingest_reads_back_what_was_ranked(folder, tmp_path):
    rank_all(folder, "wang", quality)
    rank_all(folder, "李医生", quality)
    out = tmp_path / "preferences.jsonl"
    done = export(folder, out)
    assert (done.num_written, done.set_aside, done.num_waiting, done.num_partly) == (10, {}, 0, 0)
    tasks = load(folder)[1]
    for task, found in zip(tasks, ingested(out), strict=True):
        assert isinstance(found, Preference)
        assert found.prompt == task.prompt and found.answers == tuple(one.text for one in task.candidates)
        assert found.ranks == quality(task) and found.category == task.category
    assert len({found.group for found in ingested(out)}) == 10
    (again,) = (read_source(Source(name="ours", path="*"), {out.name: out}, Tally()),)
    assert all(isinstance(found, Preference) for found in again), "told by its content too"
    before = out.read_bytes()
    export(folder, out)
    assert out.read_bytes() == before


def task_of(*texts):
    prompt = (Turn("user", "问"),)
    return Task(
        id="q:1",
        key=key_of(prompt, texts),
        prompt=prompt,
        candidates=tuple(Candidate(one, ("s",)) for one in texts),
        labellers=("a", "b", "c"),
    )


def said(*rankings):
    verdicts = (Verdict(task="t", shown=(0, 1, 2), **({"skip": one} if isinstance(one, str) else {"ranks": one})) for one in rankings)
    return dict(zip("abcde", verdicts, strict=False))


def test_the_mean_rank_decides_and_equal_means_stay_ties():
    made = aggregate(task_of("x", "y", "z"), said((1, 2, 3), (2, 1, 3), (1, 2, 3)), 0)
    assert [answer["rank"] for answer in made["answers"]] == [1, 2, 3] and made["num_labellers"] == 3
    made = aggregate(task_of("x", "y", "z"), said((1, 2, 3), (2, 1, 3)), 0)
    assert [answer["rank"] for answer in made["answers"]] == [1, 1, 3] and made["agreement"] == pytest.approx(1 / 3)
    made = aggregate(task_of("x", "y", "z"), said((1, 1, 3), (3, 2, 1)), -1)
    assert [answer["rank"] for answer in made["answers"]] == [3, 1, 2], "a tie counts as the mean of its places: sums 4.5, 3.5, 4"
    assert aggregate(task_of("x", "y", "z"), said((1, 2, 3)), 0)["agreement"] is None


@pytest.mark.parametrize(
    ("verdicts", "min_agreement", "reason"),
    [
        (said((1, 2, 3), (3, 2, 1)), 0, "disagreement"),
        (said((1, 2, 3), (1, 3, 2)), 0.5, "disagreement"),
        (said((1, 1, 1)), 0, "no_preference"),
        (said((1, 1, 1), (1, 1, 1)), 0, "no_preference"),
        (said("all_wrong"), 0, "skipped"),
        (said("cannot_judge", "cannot_judge"), 0, "skipped"),
        (said("all_wrong", (1, 2, 3)), 0, "skipped"),
        (said("all_wrong", "other", (1, 2, 3)), 0, "skipped"),
    ],
)
def test_what_is_set_aside_has_a_reason(verdicts, min_agreement, reason):
    made = aggregate(task_of("x", "y", "z"), verdicts, min_agreement)
    assert isinstance(made, Reject) and (made.stage, made.reason, made.id) == ("label", reason, "q:1")
    assert made.detail and len(made.record["verdicts"]) == len(verdicts)


def test_one_who_skips_does_not_stop_two_who_rank():
    made = aggregate(task_of("x", "y", "z"), said("all_wrong", (1, 2, 3), (1, 2, 3)), 0)
    assert made["num_labellers"] == 2 and made["agreement"] == 1
    made = aggregate(task_of("x", "y", "z"), said("cannot_judge", (1, 2, 3)), 0)
    assert made["num_labellers"] == 1, "who cannot judge says nothing against the answers"


texts = st.text(min_size=1, max_size=30).map(str.strip).filter(bool)


@given(st.lists(texts, min_size=2, max_size=5, unique=True), st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_any_text_and_any_ranking_come_back(tmp_path_factory, found, values):
    ranks = ranks_of([0, *values][: len(found)])
    row = aggregate(task_of(*found), {"a": Verdict(task="t", shown=(), ranks=ranks)}, 0)
    path = tmp_path_factory.mktemp("odd") / "p.jsonl"
    path.write_bytes(msgspec.json.encode(row) + b"\n")
    (back,) = ingested(path)
    assert isinstance(back, Preference) and back.answers == tuple(found) and back.ranks == ranks


def test_unfinished_work_is_counted_not_written(folder, tmp_path):
    turned = iter(range(100))
    rank_all(folder, "wang", lambda task: [quality(task), "all_wrong", None][next(turned) % 3])
    out = tmp_path / "p.jsonl"
    done = export(folder, out)
    assert done.num_written == 3 and done.set_aside == {"skipped": 2} and done.num_waiting == 5
    assert [reject.reason for reject in read(beside(out), Reject)] == ["skipped"] * 2
    shared = {task.key for task in load(folder)[1] if len(task.labellers) == 2}
    answered = [json.loads(line)["task"] for line in out.read_text("utf-8").splitlines()]
    answered += [reject.record["task"] for reject in read(beside(out), Reject)]
    assert done.num_partly == len(shared & set(answered))


def test_errors(folder, tmp_path):
    with pytest.raises(ValueError, match="no ranking to write .10 tasks without a verdict, 0 set aside.; rank first"):
        export(folder, tmp_path / "p.jsonl")
    with pytest.raises(ValueError, match="give -1 to 1"):
        export(folder, tmp_path / "p.jsonl", 2)
    with pytest.raises(ValueError, match="no folder"):
        export(folder, tmp_path / "none" / "p.jsonl")
    assert not (tmp_path / "p.jsonl").exists()


def test_report_of_labellers_who_agree_and_of_ones_who_do_not(made):
    agree, _ = made("agree", num_tasks=20, overlap=0.5)
    for name in ("wang", "李医生"):
        rank_all(agree, name, quality)
    found = report(agree)
    assert found.num_tasks == found.num_finished == 20 and len(found.shared) == 10
    assert (found.mean_kendall_w, found.krippendorff_alpha, found.chance_kendall_w) == (pytest.approx(1), pytest.approx(1), 0.5)
    (pair,) = found.pairs
    assert (pair.num_tasks, pair.same, pair.opposite, pair.half, pair.net) == (10, 60, 0, 0, 1)
    assert [one.num_ranked for one in found.labellers] == [15, 15] and found.labellers[0].tied_share == pytest.approx(1 / 6)

    oppose, _ = made("oppose", num_tasks=20, overlap=0.5)
    rank_all(oppose, "wang", lambda task: (1, 2, 3, 4))
    rank_all(oppose, "李医生", lambda task: (4, 3, 2, 1))
    found = report(oppose)
    assert found.mean_kendall_w == 0 and found.krippendorff_alpha < -0.8 and found.pairs[0].net == -1


def test_one_who_always_takes_the_first_is_seen(made):
    folder, _ = made(num_tasks=20, overlap=1.0)
    session = Session(folder, "wang")
    for task in session.queue:
        session.save(task, [1, 2, 3, 4])
    session.close()
    rank_all(folder, "李医生", quality)
    lazy, honest = report(folder).labellers
    assert lazy.first_place == 1 and abs(honest.first_place) < 0.5


def test_the_report_is_readable_at_any_time(folder, made):
    text = markdown(report(folder))
    assert "no task yet that two labellers have ranked" in text and "| wang | 7 | 0 | 0 | — | — | — |" in text
    rank_all(folder, "wang", quality)
    rank_all(folder, "李医生", lambda task: "unclear_question" if task.id.endswith("1") else quality(task))
    text = markdown(report(folder))
    assert "Krippendorff" in text and "wang – 李医生" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    alone, _ = made("alone", labellers=("wang",))
    rank_all(alone, "wang", quality)
    assert report(alone).krippendorff_alpha is None and report(alone).pairs == []
