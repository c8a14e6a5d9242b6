import pytest
from hypothesis import given
from hypothesis import strategies as st

from medchatzh.curate.privacy import find, mask


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
        ("", "bank_card", ""),
        ("护照号E12345678", "passport", "护照号<护照>"),
        ("车牌京A12345", "plate", "车牌<车牌>"),
    ],
)
def test_kinds_written_straight_after_hanzi(text: str, kind: str, masked: str) -> None:
    if kind == "bank_card":
        text = "卡号" + luhn("621700123456789012")
        masked = "卡号<银行卡>"
    assert [finding.kind for finding in find(text)] == [kind]
    assert mask(text) == masked


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
    ],
)
def test_medical_numbers_are_nobody(text: str) -> None:
    assert list(find(text)) == []
    assert mask(text) == text


def luhn(digits: str) -> str:
    return next(digits + str(last) for last in range(10) if any(finding.kind == "bank_card" for finding in find(digits + str(last))))


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
]


@given(st.lists(st.sampled_from(_PIECES), max_size=10).map("".join) | st.text(alphabet="病0123456789.-/，QqVvXx微信@a。com", max_size=40))
def test_nothing_is_left_to_find_in_a_masked_text(text: str) -> None:
    masked = mask(text)
    assert list(find(masked)) == []
    assert (masked == text) == (list(find(text)) == [])


def test_the_neighbour_of_a_masked_value_is_masked_too() -> None:
    assert mask("咨询电话7220332、7220333") == "咨询电话<座机>、<座机>"


def test_only_values_change() -> None:
    assert mask("张医生，13800001234，周三出诊") == "张医生，<手机>，周三出诊"
