"""Plain files and archives → parts."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest

from medchatzh.ingest.encoding import SAMPLE_BYTES
from medchatzh.ingest.files import CORRUPT, Part, parts


def read(path: Path) -> list[tuple[str, str]]:
    found = []
    for part in parts("data/x", path):
        with part.text() as stream:
            found.append((part.name, stream.read()))
    return found


def write_tar(path: Path, mode: str, members: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_a_plain_or_packed_file_is_one_part_whatever_its_name(tmp_path: Path, pack) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(pack("感冒\r\n发热\n".encode("gbk") * 9))
    assert read(path) == [("data/x", "感冒\r\n发热\n" * 9)]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar_members_come_in_archive_order_and_can_be_read_twice(tmp_path: Path, mode: str) -> None:
    write_tar(tmp_path / "t", mode, {"./b.txt": "乙".encode(), "a/甲.txt": "甲".encode()})
    assert read(tmp_path / "t") == [("data/x!b.txt", "乙"), ("data/x!a/甲.txt", "甲")]
    for part in parts("x", tmp_path / "t"):
        assert part.head == part.text().read()


def test_zip_members_are_sorted_gbk_names_read_and_system_files_left_out(tmp_path: Path) -> None:
    path = tmp_path / "z"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("b.json", "a.json", "__MACOSX/._a.json", "folder/.DS_Store"):
            archive.writestr(name, "{}")
        archive.writestr("xx.txt", "{}")
    path.write_bytes(path.read_bytes().replace(b"xx.txt", "病.txt".encode("gbk")))
    assert [name for name, _ in read(path)] == ["data/x!a.json", "data/x!b.json", "data/x!病.txt"]


def test_a_cut_archive_gives_what_it_holds_then_raises(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress("".join(f"{number * number}\n" for number in range(40000)).encode())[:-900])
    lines = []
    with pytest.raises(CORRUPT):
        for part in parts("x", tmp_path / "x.gz"):
            for line in part.text():
                lines.append(line)
    assert lines[:3] == ["0\n", "1\n", "4\n"]
    assert len(lines) > 30000
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04" + b"cut")
    with pytest.raises(CORRUPT):
        read(tmp_path / "x.zip")


def test_zip_members_of_one_name_are_all_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("b.txt", "甲")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("b.txt", "乙")
        archive.writestr("a.txt", "丙")
    assert read(tmp_path / "z") == [("data/x!a.txt", "丙"), ("data/x!b.txt", "甲"), ("data/x!b.txt", "乙")]


def test_a_sample_lost_to_damage_is_not_empty() -> None:
    class Damaged(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if not (data := super().read1(size)):
                raise OSError("Invalid data stream")
            return data

    with pytest.raises(CORRUPT):
        _ = Part("x", lambda: Damaged(b" \n")).encoding
    assert Part("x", lambda: Damaged("胃痛".encode())).head == "胃痛"
    long = Part("x", lambda: Damaged(b"x" * SAMPLE_BYTES))  # the damage comes after a sample that does not tell the encoding
    assert long.encoding == "utf-8"


def test_a_file_of_nuls_is_no_empty_tar(tmp_path: Path) -> None:
    (tmp_path / "n").write_bytes(bytes(10240))
    assert len(list(parts("n", tmp_path / "n"))) == 1


def test_encoding_is_told_by_the_first_bytes_that_are_not_ascii() -> None:
    data = b"x" * (SAMPLE_BYTES + 10) + "胃痛三天了，怎么办？".encode("gbk")
    assert Part("x", lambda: io.BytesIO(data)).encoding == "gb18030"
    assert Part("x", lambda: io.BytesIO(b"x" * SAMPLE_BYTES + b"\n")).encoding == "utf-8"


def test_archives_inside_archives_are_opened_some_deep(tmp_path: Path) -> None:
    def nested(depth: int) -> bytes:
        with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
            archive.writestr("a.gz", gzip.compress("甲".encode()))
            if depth:
                archive.writestr("z.zip", nested(depth - 1))
        return buffer.getvalue()

    (tmp_path / "x").write_bytes(nested(5))
    names = [part.name for part in parts("x", tmp_path / "x")]
    assert names == ["x!a.gz", "x!z.zip!a.gz", "x!z.zip!z.zip!a.gz", "x!z.zip!z.zip!z.zip"]
    write_tar(tmp_path / "t", "w:gz", {"in/x.zip": nested(0), "b.txt": b"b"})
    assert read(tmp_path / "t") == [("data/x!in/x.zip!a.gz", "甲"), ("data/x!b.txt", "b")]


def test_a_damaged_inner_archive_leaves_its_neighbours(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("a.zip", b"PK\x03\x04 cut")
        archive.writestr("b.txt", "乙")
    found = []
    for part in parts("x", tmp_path / "x"):
        try:
            found.append((part.name, part.head))
        except CORRUPT:
            found.append((part.name, "damaged"))
    assert found == [("x!a.zip", "damaged"), ("x!b.txt", "乙")]
