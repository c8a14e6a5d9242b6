import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate import Config, curate_records
from medchatzh.curate.privacy import DEFAULT_KINDS, KINDS, find, gate, mask, mask_dialogue, opened, search
from medchatzh.curate.rules import Case, PoolRules
from medchatzh.curate.rules.privacy import personal_data
from medchatzh.records import Dialogue, Turn


@pytest.mark.parametrize(
    ("text", "kind", "masked"),
    [
        ("请联系13800001234咨询", "mobile", "请联系<手机>咨询"),
        ("手机138-0000-1234。", "mobile", "手机<手机>。"),
        ("加我：１３８００００１２３４", "mobile", "加我：<手机>"),
        ("打一三八零零零零一二三四", "mobile", "打<手机>"),
        ("座机010-62345678转2", "landline", "座机<座机>转2"),
        ("咨询电话7220332(请保留)", "landline", "咨询电话<座机>(请保留)"),
        ("热线4000322310", "hotline", "热线<热线>"),
        ("热线400-032-2310", "hotline", "热线<热线>"),
        ("发到zhang_san＠example.com，谢谢", "email", "发到<邮箱>，谢谢"),
        ("发到li4@qq。com", "email", "发到<邮箱>"),
        ("身份证号11010519491231002X。", "id_card", "身份证号<身份证>。"),
        ("QQ：123456789", "qq", "QQ：<QQ>"),
        ("加微信kangfu_2010", "wechat", "加微信<微信>"),
        ("微信号：yishengwang", "wechat", "微信号：<微信>"),
        ("卡号6217001234567890122", "bank_card", "卡号<银行卡>"),
        ("退到6217 0012 3456 7890 122吧", "bank_card", "退到<银行卡>吧"),
        ("护照号E12345678", "passport", "护照号<护照>"),
        ("车牌京A12345", "plate", "车牌<车牌>"),
        ("新能源车粤B·D12345堵门", "plate", "新能源车<车牌>堵门"),
        ("打1 3 8 0 0 0 0 1 2 3 4", "mobile", "打<手机>"),
        ("打+86 138－0000－1234", "mobile", "打<手机>"),
        ("打𝟏𝟑𝟖𝟎𝟎𝟎𝟎𝟏𝟐𝟑𝟒", "mobile", "打<手机>"),
        ("联系138 000 012 34", "mobile", "联系<手机>"),
        ("13800001234微信同号", "mobile", "<手机>微信同号"),
        ("座机（010）62345678", "landline", "座机<座机>"),
        ("打01062345678", "landline", "打<座机>"),
        ("打0371-66667777-801", "landline", "打<座机>"),
        ("热线四零零零三二二三一零", "hotline", "热线<热线>"),
        ("发到zhang.san@mail.hospital.org.cn谢谢", "email", "发到<邮箱>谢谢"),
        ("发到li4 @ qq . com谢谢", "email", "发到<邮箱>谢谢"),
        ("发到li4艾特qq点com", "email", "发到<邮箱>"),
        ("发到li4（at）qq．com", "email", "发到<邮箱>"),
        ("身份证110105491231002", "id_card", "身份证<身份证>"),
        ("号码110105 19491231 002x", "id_card", "号码<身份证>"),
        ("加我微信：yishengwang", "wechat", "加我微信：<微信>"),
        ("备注wxid_a1b2c3d4e5就行", "wechat", "备注<微信>就行"),
        ("加Vkangfu_2010领药", "wechat", "加V<微信>领药"),
        ("kangfu_2010（微信）", "wechat", "<微信>（微信）"),
        ("加微博 https://weibo.com/u/1234567890 看", "url", "加微博 <网址> 看"),
        ("预约：www.drwang120.com。", "url", "预约：<网址>。"),
        ("我叫张小明，今年五十", "name", "我叫某某，今年五十"),
        ("姓名：欧阳娜娜 性别：女", "name", "姓名：某某 性别：女"),
        ("患者李建国，男，45岁", "name", "患者某某，男，45岁"),
        ("昨天找王秀英医生看的", "name", "昨天找某某医生看的"),
        ("主任医师：司马光", "name", "主任医师：某某"),
        ("联系人：查良镛。", "name", "联系人：某某。"),
        ("样品6222021234567890128入库", "bank_card", "样品<银行卡>入库"),
        ("社保卡号 1234567890", "id_card", "社保卡号 <身份证>"),
        ("发zhangsan#163.com，#换@", "email", "发<邮箱>，#换@"),
        ("V❤：abc12345", "wechat", "V❤：<微信>"),
        ("v：abc12345", "wechat", "v：<微信>"),
        ("绿泡泡abc12345", "wechat", "绿泡泡<微信>"),
        ("微信搜abc1234", "wechat", "微信搜<微信>"),
        ("加我扣123456789", "qq", "加我扣<QQ>"),
        ("看www.haodf.com/doctor/123吧", "url", "看<网址>吧"),
        ("详见 https://www.who.int/zh ，", "link", "详见 <链接> ，"),
        ("网址www.abc。com。", "link", "网址<链接>。"),
        ("在北京协和医院住过", "hospital", "在某医院住过"),
        ("去郑州大学第一附属医院查", "hospital", "去某医院查"),
        ("威宁县中医院开的药", "hospital", "某医院开的药"),
    ],
)
def test_kinds_written_straight_after_hanzi(text: str, kind: str, masked: str) -> None:
    assert [finding.kind for finding in find(text, KINDS)] == [kind]
    assert mask(text, KINDS) == masked


@pytest.mark.parametrize(
    "text",
    [
        "病毒载量20807000，去年是13800001234拷贝/ml。",
        "20100918入院，20101002出院，版本6.8.5.8",
        "血压140/90，每次0.25-0.5克，一日3次，1,000,000单位",
        "标本编号110105194912310022，条码6901234567892",
        "国药准字H20123456，Z20054321",
        "请加微信群，微信（WeChat）很方便",
        "邮箱写成user@example.com的样子",
        "乙肝DNA 1.5×10^7 IU/ml，13-15天复查",
        "q12h给药，Q10辅酶",
        "HBV-DNA定量13800001234，批号4000322310",
        "4000000000个血小板，5×10000000000",
        "谢谢张医生，李主任说没事，王大夫也这么说",
        "患者女性，45岁；患者高血压，男，5年",
        "我叫他先吃药，我叫了医生来，药名叫心得安",
        "患者高龄，80岁；他叫常年在外的儿子来",
        "加VitB12，加VC 1000mg，加VB6100mg，加V 1000mg，加微 10000iu",
        "应高度重视，请当地五官科医生查明，再由主治医师许可",
        "姓名和年龄都写了，签名、电话没写",
        "去当地人民医院，或者北京的医院，正规三甲医院，深圳男科医院哪家好",
        "样品6222021234567890123入库，样品6222021234567890129入库",
        "折扣：50000，心电图V：1-6导联，V：12345678，C#163，社保卡号要填",
        "网址写在www后面，以www.开头",
    ],
)
def test_medical_numbers_are_nobody(text: str) -> None:
    assert find(text, KINDS) == []
    assert mask(text, KINDS) == text


_PIECES = [
    "13800001234",
    "7220332",
    "电话",
    "a1@qq。com",
    "@",
    "微信",
    "微信号",
    "QQ",
    "kf_2010",
    "123456789",
    "abcdefg",
    "护照",
    "E12345678",
    "、",
    "，",
    " ",
    "病",
    "+86-",
    "400",
    "0371-",
    "110105194912310",
    "02X",
    "一三八零",
    "６２１７ ",
    "京A",
    "wx",
    "v：",
    "V❤",
    "绿泡泡",
    "搜",
    "扣",
    "#163.com",
    "www.",
    "abc。com",
    "http://",
    "社保卡号",
    "weibo.com/",
    "预约：",
    "我叫",
    "姓名：",
    "患者",
    "张小明",
    "欧阳",
    "，男，",
    "医生",
    "教授",
    "我是",
    "北京",
    "大学",
    "第一",
    "附属",
    "医院",
]


_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=10).map("".join) | st.text(
    alphabet="病0123456789.-/，QqVvXx微信@a。com张小明医生叫：", max_size=40
)


@given(_TEXTS)
def test_nothing_is_left_to_find_in_a_masked_text(text: str) -> None:
    masked = mask(text, KINDS)
    assert find(masked, KINDS) == []
    assert (masked == text) == (find(text, KINDS) == [])


@given(_TEXTS)
def test_the_gate_loses_nothing(text: str) -> None:
    assert gate(text, KINDS) == opened([text], KINDS)[0]
    for finding in search(text, KINDS):
        assert gate(text, (finding.kind,))
        assert gate("前" + text[finding.start - 20 if finding.start > 20 else 0 :] + "后", (finding.kind,))


def test_the_gate_reads_code_points_of_many_texts_at_once() -> None:
    texts = ["多喝水", "", "打13800001234", "2010-09-18入院", "我叫张小明", "𠀀𠀁"]
    assert (
        opened(texts, DEFAULT_KINDS).tolist() == [gate(text, DEFAULT_KINDS) for text in texts] == [False, False, True, False, True, False]
    )
    assert opened(texts, ("mobile",)).tolist() == [False, False, True, False, False, False]


def test_the_neighbour_of_a_masked_value_is_masked_too() -> None:
    assert mask("咨询电话7220332、7220333") == "咨询电话<座机>、<座机>"


def test_only_values_of_the_kinds_asked_for_change() -> None:
    text = "张医生，13800001234，周三出诊，北京协和医院，我叫李小红。"
    assert mask(text) == "张医生，<手机>，周三出诊，北京协和医院，我叫某某。"
    assert mask(text, ("hospital",)) == "张医生，13800001234，周三出诊，某医院，我叫李小红。"
    assert [finding.kind for finding in find(text, KINDS)] == ["mobile", "hospital", "name"]


def test_a_dialogue_without_personal_data_stays_the_same_object() -> None:
    clean = Dialogue(id="x:1", turns=(Turn("user", "头痛"), Turn("assistant", "在北京协和医院查过吗？")))
    assert mask_dialogue(clean) is clean
    assert mask_dialogue(clean, ("hospital",)).turns[1].content == "在某医院查过吗？"


def talk(*contents: str, pool: str = "medical") -> Dialogue:
    return Dialogue(id="x:1", pool=pool, turns=tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(contents)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("我叫王建国，胃疼", "王建国你好，少吃辣。"), ("我叫某某，胃疼", "某某你好，少吃辣。")),
        (("加谁？", "加123456789细说", "QQ：123456789"), ("加谁？", "加<QQ>细说", "QQ：<QQ>")),
        (("QQ：123-456-789", "加１２３４５６７８９"), ("QQ：<QQ>", "加<QQ>")),
        (("微信：Abc1234", "搜abc1234或xabc1234"), ("微信：<微信>", "搜<微信>或xabc1234")),
        (("QQ：12345", "编号123456，血小板12345"), ("QQ：<QQ>", "编号123456，血小板<QQ>")),
        (("我叫王建，我叫王建国，疼", "王建国和王建都吃"), ("我叫某某，我叫某某，疼", "某某和某某都吃")),
    ],
)
def test_a_value_is_masked_wherever_it_stands_in_its_record(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    masked = mask_dialogue(talk(*before))
    assert tuple(turn.content for turn in masked.turns) == after
    assert mask_dialogue(masked) is masked


@given(st.lists(_TEXTS, min_size=1, max_size=3))
def test_a_masked_dialogue_stays_as_it_is(texts: list[str]) -> None:
    masked = mask_dialogue(talk(*texts), KINDS)
    assert mask_dialogue(masked, KINDS) is masked


def test_neither_rejects_nor_kept_records_show_a_value_found_elsewhere() -> None:
    record = talk("我叫王建国，胃疼两天了，怎么办？", "王建国你好，先吃清淡的，三天不好就到医院检查。")
    (dropped,) = curate_records([record], [], Config())
    assert dropped.reason == "personal_data" and dropped.span == (0, 2, 4) and "王建国" not in str(dropped)
    assert dropped.record.turns[0].content[2:4] == "某某"
    (kept,) = curate_records([record], [], Config(personal_data="mask"))
    assert kept.edits == ("personal_data",) and "王建国" not in str(kept)


def test_web_addresses_count_in_medical_records_only() -> None:
    contents = ("高血压怎么吃？", "少吃盐，多吃菜，详见 https://www.who.int/zh ，每天量血压，定期到医院复查。")
    outcomes = [next(curate_records([talk(*contents, pool=pool)], [], Config())) for pool in ("medical", "general")]
    assert getattr(outcomes[0], "reason", "") == "personal_data" and outcomes[0].detail == "link"
    assert getattr(outcomes[1], "reason", "") != "personal_data"
    (loop,) = curate_records([talk(contents[0], "详见 https://www.who.int/zh ，" + "多喝水多休息，" * 30, pool="general")], [], Config())
    assert loop.reason == "loop" and loop.span and "www.who.int" in loop.record.turns[1].content


def _seconds(text: str) -> float:
    """The quickest of three: processor time, too, grows on a busy machine."""
    took = []
    for _ in range(3):
        start = time.process_time()
        masked = mask(text)
        took.append(time.process_time() - start)
    assert find(masked) == [] and masked != text
    return min(took)


@pytest.mark.parametrize(
    "form", ["微信：abc{}，", "1381{}，", "u{}@qq.com，", "010-8{}，", "QQ：1{}，", "我叫王建国{}，", "1-1-1-1-1-1-1-1-1-1-1-1-1-1-1-{}，"]
)
def test_the_time_for_many_values_grows_no_faster_than_the_text(form: str) -> None:
    text = "".join(form.format(1_000_000 + number) for number in range(12_000))
    assert _seconds(text) <= 10 * max(_seconds(text[: len(text) // 4]), 0.05)


def test_the_time_for_numbers_that_each_lay_the_next_bare_grows_no_faster_than_the_text() -> None:
    text = "电话" + "、".join(str(7_220_000 + number) for number in range(2_000))
    assert "722" not in mask(text)
    assert _seconds(text + "，") <= 10 * max(_seconds(text[: len(text) // 4]), 0.05)


def test_the_rule_names_kinds_and_where_the_first_finding_stands() -> None:
    turns = (Turn("user", "头痛"), Turn("assistant", "我叫张小明，打13800001234，不是13900001234。"), Turn("user", "北京协和医院？"))
    case = Case(Dialogue(id="x:1", turns=turns), "头痛", turns[1].content, PoolRules())
    assert personal_data(case) == ("name,mobile", 1, 2, 5)
    assert personal_data(case._replace(personal_kinds=("hospital", "mobile"))) == ("mobile,hospital", 1, 7, 18)
    assert personal_data(case._replace(personal_kinds=("plate",))) is None
