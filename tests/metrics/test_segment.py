"""Text → tokens."""

import subprocess
import sys
from importlib import metadata

import jieba
import pytest

from medchatzh.metrics import PROTOCOLS, Segmenter, segment
from medchatzh.metrics.segment import characters


def test_characters_fold_nothing():
    assert characters("ＣＴ CT\t2 次，\n𠮷") == ["Ｃ", "Ｔ", "C", "T", "2", "次", "，", "𠮷"]
    assert list(Segmenter().tokens("ＣＴ CT\t2 次，\n𠮷")) == characters("ＣＴ CT\t2 次，\n𠮷")
    assert list(Segmenter(spaces="keep").tokens("多 喝\n")) == ["多", " ", "喝", "\n"]


def test_words_are_jiebas():
    text = "高血压患者 应低盐饮食。"
    assert list(Segmenter("jieba", "keep").tokens(text)) == jieba.lcut(text)
    assert list(Segmenter("jieba").tokens(text)) == [word for word in jieba.lcut(text) if word != " "]
    assert Segmenter("jieba").parts == {"tok": f"jieba-{metadata.version('jieba')}", "ws": "drop"}


def test_words_taught_to_jieba_elsewhere_change_nothing():
    code = (
        "import jieba; jieba.add_word('应低盐饮食'); from medchatzh.metrics import Segmenter;"
        "print('应低盐饮食' in jieba.lcut('患者应低盐饮食'), '应低盐饮食' in Segmenter('jieba').tokens('患者应低盐饮食'))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "True False"


def test_words_without_jieba(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    segment._jieba.cache_clear()
    segment._words.cache_clear()
    monkeypatch.setattr(segment.metadata, "version", missing)
    with pytest.raises(ValueError, match=r"pip install 'medchatzh\[words\]'"):
        Segmenter("jieba").tokens("多喝水")
    with pytest.raises(ValueError, match="needs jieba"):
        PROTOCOLS["huatuogpt-jieba"].scores(["多喝水"], [["多喝水"]])


def test_a_missing_jieba_is_told_with_its_extra(monkeypatch):
    """Also where its metadata lies about without the package."""
    monkeypatch.setitem(sys.modules, "jieba", None)
    segment._jieba.cache_clear()
    with pytest.raises(ValueError, match=r"needs jieba: pip install 'medchatzh\[words\]'"):
        segment._jieba()
