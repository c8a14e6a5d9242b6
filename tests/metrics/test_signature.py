"""Signatures tell what may be ranked together."""

from medchatzh.metrics import Bleu, Gleu, Rouge, Segmenter, conflicts


def test_equal_signatures_agree():
    assert conflicts(Bleu().signature("1(pos)"), Bleu().signature("1(pos)")) == ()


def test_every_difference_is_named():
    reference = Bleu().signature("1(pos)")
    assert conflicts(reference, Bleu(smoothing="method3").signature("1(pos)")) == ("smooth",)
    assert conflicts(reference, Bleu(weights="ind").signature("5(pos+neg)")) == ("w", "refs")
    assert conflicts(reference, Bleu().signature("1(pos)", "corpus")) == ("lvl",)
    assert conflicts(reference, Bleu(segmenter=Segmenter("jieba", "keep")).signature("1(pos)")) == ("tok", "ws")
    assert conflicts(Rouge().signature("1(pos)"), Rouge(library="rouge").signature("1(pos)")) == ("v",)
    assert "family" in conflicts(reference, Gleu().signature("1(pos)"))


def test_who_worked_it_out_does_not_matter():
    assert conflicts("BLEU|smooth:none|v:medchatzh-0.1.0=nltk-3.8.1", "BLEU|smooth:none|v:nltk-3.8.1") == ()
    assert conflicts("BLEU|v:medchatzh-0.1.0=nltk-3.8.1", "BLEU|v:medchatzh-0.1.0=nltk-3.9.1") == ("v",)


def test_a_missing_part_is_a_conflict():
    assert conflicts("BLEU|smooth:none|refs:1(pos)", "BLEU|refs:1(pos)") == ("smooth",)
    assert conflicts("BLEU|refs:1(pos)", "BLEU|smooth:none|refs:1(pos)") == ("smooth",)
