import time

import pytest

from medchatzh.curate import Config, curate_records
from medchatzh.curate.rules import PoolRules, all_rules
from medchatzh.records import Dialogue, Pool, Reject, Turn

GOOD = "感冒多由病毒引起，通常一周左右自愈。注意休息、多喝水，体温超过38.5℃可遵医嘱使用退热药，症状加重请及时就诊。"


def talk(*contents: str, pool: Pool = "medical") -> Dialogue:
    roles = ("user", "assistant") * len(contents)
    return Dialogue(id="t:1", source="t", pool=pool, turns=tuple(Turn(role, text) for role, text in zip(roles, contents, strict=False)))


def outcome(record: Dialogue, **changes: object) -> tuple[str, str]:
    """(reason, detail) of a record curated alone; ('', '') where it is kept."""
    (made,) = curate_records([record], [], Config(general=PoolRules(min_answer_chars=40), **changes))  # type: ignore[arg-type]
    return (made.reason, made.detail) if isinstance(made, Reject) else ("", "")


@pytest.mark.parametrize(
    ("reason", "question", "answer"),
    [
        ("short_answer", "感冒了怎么办？", "多喝水。"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起，一般一周左右可以好，建议您"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起，平时注意休息，"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起。平时注意休息，如果体温持续升高"),
        ("loop", "感冒了怎么办？", "多喝水，注意休息。" * 5),
        ("loop", "感冒了怎么办？", "感冒要多休息感冒要多喝水" * 6),
        ("refusal", "感冒吃什么药？", "作为一个人工智能语言模型，我无法提供医疗建议，请咨询医生。"),
        ("refusal", "感冒吃什么药？", "很抱歉，我不能为您提供诊断，请咨询专业人士。"),
        ("foreign_language", "感冒吃什么药？", "You should drink more water and take a rest for some days."),
        ("question_echo", "感冒以后一直咳嗽怎么办？", "感冒以后一直咳嗽怎么办？"),
        ("skipped_number", "感冒怎么办？", "1.多喝水，注意休息。\n2.清淡饮食，忌辛辣。\n4.症状加重及时就诊。"),
        ("personal_data", "感冒怎么办？", "注意休息，可以打我的手机13800001234详细问。"),
        ("colloquial", "感冒怎么办？", "哈哈亲，这个嘛，嗯嗯，没啥事的啦，别瞎想哦～"),
        ("irrelevant", "感冒怎么办？", "谢谢您的提问，祝您生活愉快！"),
        ("irrelevant", "感冒怎么办？", "已关注，同问，坐等医生来回答。"),
        ("irrelevant", "感冒怎么办？", "如果我的回答对您有帮助，请点击下方的“采纳”按钮，感谢您的支持。"),
        ("advertising", "白癜风怎么治？", "我院采用德国进口技术，无效退款，点击咨询在线客服了解详情。"),
        ("garbage", "感冒怎么办？", "！！！？？？……"),
        ("garbage", "感冒怎么办？", "鐨勬槸浠涓鍦\ufffd\ufffd\ufffd锟斤拷锟斤拷多喝水"),
        ("garbage", "？？", GOOD),
    ],
)
def test_each_rule_names_its_reason(reason: str, question: str, answer: str) -> None:
    assert outcome(talk(question, answer))[0] == reason


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("感冒了怎么办？", GOOD),
        ("诊断是什么？", "考虑为心源性肝硬化，建议完善检查"),  # no full stop, and complete
        ("这个病严重吗？", "建议及时到正规医院就诊，在医生指导下治疗就可以"),
        ("他的病情可能是急性胃黏膜出血吗？", "他的病情可能是急性胃黏膜出血。"),
        ("吃什么药好？", "您好，建议您到医院就诊，在医生指导下用药，祝您早日康复！"),
        ("为什么会血压高？", "我院门诊常见这种情况，多与盐吃得多、缺少运动有关，建议监测血压。"),
        ("怎么按摩？", "1.先用热水泡脚。\n2.按揉涌泉穴。\n饮食方面：\n1.少盐。\n2.少油。"),
        ("怎么治？", "1.休息。\n2.冷敷，共3.5小时，见3、抬高患肢。\n4.及时就诊。"),
        ("乙肝病毒载量20807000，严重吗？", "20100918的结果是20807000，说明病毒复制活跃，请到感染科就诊。"),
        ("怎么预防感冒？", "多运动，多喝水，多通风。天冷时出门加衣，人多的地方戴口罩，手要勤洗呀。"),
    ],
)
def test_sound_answers_stay(question: str, answer: str) -> None:
    assert outcome(talk(question, answer)) == ("", "")


def test_text_without_a_loop_costs_little_to_search() -> None:
    first = "".join(chr(0x4E00 + 7 * number % 5000) for number in range(300))
    for answer in (first * 3 + "止" * 4100, (first * 3)[:999] + "，" + first * 13, "甲乙丙" * 3 + "".join(map(str, range(1500)))):
        start = time.process_time()
        outcome(talk("感冒怎么办？", answer), rules=("loop",))
        assert time.process_time() - start < 0.05
    assert outcome(talk("怎么办？", "1.多喝水" * 4), rules=("loop",)) == ("loop", "over and over '1.多喝水'")
    assert outcome(talk("怎么办？", "-" * 60 + "多喝水注意休息" * 9), rules=("loop",))[0] == "loop"


def test_in_a_consultation_short_turns_are_fine() -> None:
    assert outcome(talk("头痛", "多久了？", "三天", "建议到神经内科就诊，完善头颅检查，期间注意休息。")) == ("", "")
    assert outcome(talk("头痛", "多久了？", "三天", "好的。"))[0] == "short_answer"


def test_personal_data_of_any_turn_counts_and_never_shows() -> None:
    record = talk("我的电话13800001234，QQ：123456789", GOOD, "好的，发到li4@qq。com", GOOD)
    (made,) = curate_records([record], [], Config())
    assert isinstance(made, Reject)
    assert (made.reason, made.detail) == ("personal_data", "mobile,qq,email")
    assert "13800001234" not in str(made) and "123456789" not in str(made) and "li4" not in str(made)
    assert "<手机>" in made.record.question


def test_values_are_masked_whatever_the_reason() -> None:
    (made,) = curate_records([talk("请打13800001234", "我院采用德国进口技术，无效退款，详情拨打13800001234。")], [], Config())
    assert isinstance(made, Reject) and made.reason == "advertising"
    assert "13800001234" not in str(made)


def test_masking_keeps_the_record() -> None:
    (made,) = curate_records([talk("感冒怎么办？", GOOD + "我的手机13800001234。")], [], Config(personal_data="mask"))
    assert isinstance(made, Dialogue)
    assert "<手机>" in made.answers[0] and made.edits == ("personal_data",)


def test_pools_have_their_own_thresholds() -> None:
    answer = "读书使人明理，也使人安静。"
    assert outcome(talk("读书有什么好处？", answer)) == ("", "")
    assert outcome(talk("读书有什么好处？", answer, pool="general"))[0] == "short_answer"
    assert outcome(talk("把“早上好”翻译成英文", "The English for this greeting is: good morning, my dear friends.", pool="general")) == (
        "",
        "",
    )


def test_only_the_named_rules_speak() -> None:
    assert outcome(talk("感冒了怎么办？", "多喝水。"), rules=("loop",)) == ("", "")


@pytest.mark.parametrize(("field", "name", "near"), [("rules", "short_anser", "short_answer"), ("repairs", "list_number", "list_numbers")])
def test_unknown_names_fail_with_the_nearest(field: str, name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: unknown name '{name}'; did you mean '{near}'"):
        Config(**{field: (name,)})


def test_thresholds_out_of_range_fail() -> None:
    with pytest.raises(ValueError, match="max_junk_share is 2"):
        PoolRules(max_junk_share=2)


def test_every_rule_is_documented() -> None:
    assert {rule.name for rule in all_rules() if not rule.find.__doc__} == set()
    assert len(all_rules()) == 12
