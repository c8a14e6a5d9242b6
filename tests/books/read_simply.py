"""A second, simple reader of book files, line by line and without a line of the package's code: what the golden file was made with.

`python tests/books/read_simply.py DATA` writes `tests/golden/books.jsonl` anew from `DATA/books/tcm_books.tar.xz`. It holds counts, header
fields and hashes, no text. What each book should give was looked at by eye in seven of them (`SEEN` in test_books_real.py).
"""

import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path

BOOKS = (
    "000-神农本草经",
    "008-汤液本草",
    "118-增订医方歌诀",
    "140-小儿推拿广意",
    "183-麻科活人全书",
    "190-毓麟验方",
    "196-产后十八论",
    "228-发背对口治诀论",
    "262-接骨手法",
    "271-杨成博先生遗留穴道秘书",
    "287-脉诀考证",
    "403-寓意草",
    "521-察舌辨症新法",
    "534-心医集",
    "535-西池集",
    "582-韩氏医通",
    "621-褚氏遗书",
    "622-诸脉主病诗",
    "629-眼科奇书",
    "651-十二經補瀉溫涼引經藥歌",
    "666-一瓢医案",
)
GOLDEN = Path(__file__).parents[1] / "golden" / "books.jsonl"
HEADER = ("书名：", "作者：", "朝代：", "年份：")
SITE = ("瑰宝苑", "建档：")
SWAPPED = {
    "毒瓦斯": "毒气",
    "快捷方式": "捷径",
    "冷冻饮料": "冷饮",
    "野狼": "狼",
    "根据": "依",
    "香港脚": "脚气",
    "黄胆": "黄疸",
    "短剧": "小品",
    "浓朴": "厚朴",
    "浓味": "厚味",
    "浓薄": "厚薄",
}


def unpack(archive: Path) -> dict[str, bytes]:
    """The files of BOOKS, by name without `.txt`."""
    found = {}
    with tarfile.open(archive, "r|xz") as members:
        for member in members:
            name = Path(member.name).stem
            if name in BOOKS and (stream := members.extractfile(member)):
                found[name] = stream.read()
    return found


def hanzi(text: str, is_marked: bool) -> str:
    """Only the hanzi: neither punctuation nor breaks nor marks of lost characters can differ."""
    for wrong, right in SWAPPED.items():
        text = text.replace(wrong, right) if is_marked else text
    return "".join(re.findall("[\u3400-\u9fff]", text))


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def read_simply(data: bytes) -> dict[str, object]:
    """`header`, and of each chapter: hash of its path, hash of its hanzi, number of lines that are not blank."""
    lines = [line.strip(" \u3000\x1a") for line in data.decode("gb18030").replace("\r", "\n").split("\n")]
    is_marked = any(line.startswith("<篇名>") for line in lines)
    header = dict.fromkeys(HEADER, "")
    chapters: list[tuple[list[str], list[str]]] = [] if is_marked else [([], [])]
    path: list[str] = []
    for number, line in enumerate(lines):
        following = [other for other in lines[number + 1 :][:9] if other]
        if line.startswith("<目录>"):
            path = line[4:].split("\\")
        elif line.startswith("<篇名>"):
            if not (following and following[0].startswith("书名：")):
                own = [*path, line[4:]]
                chapters.append(([name for at, name in enumerate(own) if name and own[at - 1 : at] != [name]], []))
        elif not chapters:
            for field in HEADER:
                if line.startswith(field):
                    header[field] = line[3:].strip()
        elif not any(word in line for word in SITE) or is_marked:
            chapters[-1][1].append(line.removeprefix("属性：").removeprefix("内容：").replace("\\r图\\", ""))
    if not is_marked:
        chapters = cut_at_headings(chapters[0][1]) if sum(map(len, lines)) > 5000 else chapters
    shown = [
        f"{digest(hanzi('/'.join(path), is_marked))} {digest(hanzi(''.join(body), is_marked))} {sum(map(bool, body))}"
        for path, body in chapters
        if is_marked or any(body)
    ]
    return {"header": list(header.values()), "chapters": shown}


def cut_at_headings(lines: list[str]) -> list[tuple[list[str], list[str]]]:
    """A short line that could be a title, after a blank one and before a long one, begins a chapter, and is its first line."""
    chapters: list[tuple[list[str], list[str]]] = [([], [])]
    for at, line in enumerate(lines):
        following = next(filter(None, lines[at + 1 :]), "")
        if at and not lines[at - 1] and len(following) >= 30 and could_be_title(line):
            chapters.append(([line], []))
        chapters[-1][1].append(line)
    return chapters


def could_be_title(line: str) -> bool:
    """Not a sentence, a signature, a source in brackets, a list of drugs or a dose."""
    if not 2 <= len(line) <= 24 or any(mark in line for mark in "，。；！？、：:【】") or line[-1] in "年月日撰识序著叙校订":
        return False
    if len(line) > 5 and line[0] in "（(《" and line[-1] in "）)》":
        return False
    is_list = sum(len(word) > 1 for word in line.replace("\u3000", " ").split(" ") if word) > 2
    return not is_list and not re.search("[0-9一二两三四五六七八九十半][两钱克分斤升枚]", line)


if __name__ == "__main__":
    files = unpack(Path(sys.argv[1]) / "books" / "tcm_books.tar.xz")
    rows = ({"book": name, **read_simply(files[name])} for name in BOOKS)
    GOLDEN.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
