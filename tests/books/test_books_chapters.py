from medchatzh.books.chapters import Header, is_marked, split

LONG = "此论外感之证治，当先辨其表里寒热虚实，而后立法处方，方不致误。" * 4
MARKED = (
    "某网\n<篇名>样书\n书名：样书\n作者： \n朝代：清  \n年份：公元1768年\n\n"
    "<目录>\n<篇名>序\n属性：序文。\n"
    "<目录>卷上\\草部\n<篇名>甘草\n内容：甘草文。\n"
    "<目录>卷上\\甘草\n<篇名>甘草\n\n"
    "<目录>卷上\\草部\n<篇名>甘草\n属性：\n\n属性：又一文。\n"
)


def test_header_and_chapters_of_a_marked_book() -> None:
    header, chapters = split(MARKED, 10**6)
    assert header == Header("样书", "", "清", "公元1768年")
    assert [(chapter.number, chapter.path, chapter.text.strip()) for chapter in chapters] == [
        (0, (), "某网"),
        (1, ("序",), "序文。"),
        (2, ("卷上", "草部", "甘草"), "甘草文。"),
        (3, ("卷上", "甘草"), ""),  # a part and its chapter of one name are said once; a chapter without text keeps its number
        (4, ("卷上", "草部", "甘草"), "又一文。"),
    ]


def test_a_marked_book_without_a_header_loses_no_chapter() -> None:
    header, chapters = split("<目录>妇儿篇\n\n<篇名>样手法\n\n属性：\n手法之文\n", 10**6)
    assert header == Header()
    assert [(chapter.number, chapter.path, chapter.text.strip()) for chapter in chapters] == [(1, ("妇儿篇", "样手法"), "手法之文")]


def test_the_first_of_two_equal_fields_counts_and_a_title_stands_in_for_a_missing_one() -> None:
    header, _ = split("<篇名>题名\n作者：甲\n作者：乙\n<篇名>一\n文", 10**6)
    assert header == Header("题名", "甲")


def test_text_after_the_header_is_chapter_0() -> None:
    _, chapters = split("<篇名>题名\n作者：甲\n\n题辞一则\n<篇名>一\n作者：此为正文", 10**6)
    assert [(chapter.number, chapter.text.strip()) for chapter in chapters] == [(0, "题辞一则"), (1, "作者：此为正文")]


def test_a_text_without_markers_is_one_chapter() -> None:
    assert not is_marked(LONG)
    assert split(LONG, 10**6) == (Header(), [(1, (), LONG)])


def test_a_long_text_without_markers_is_split_at_lines_that_stand_alone() -> None:
    alone = ["此行，有标点", "- 4 -", "道光三年某序"]
    text = f"前言之文字，{LONG}\n\n发热\n\n{LONG}其一。\n\n咳　　嗽\n\n{LONG}" + "".join(f"\n\n{line}\n\n{LONG}" for line in alone)
    _, chapters = split(text, 100)
    assert [(chapter.number, chapter.path) for chapter in chapters] == [(0, ()), (1, ("发热",)), (2, ("咳嗽",))]
    assert "".join(chapter.text for chapter in chapters) == text
    assert len(split(text, 10**6)[1]) == 1
