"""Each rule alone: what it drops and says, and what it must leave alone."""

import time
from pathlib import Path

import pytest

from medchatzh import tokenizer
from medchatzh.curate.rules import Case, GeneralRules, PoolRules, Seen, all_rules, check_names, chosen
from medchatzh.recipe import convert
from medchatzh.records import Dialogue, Pool, Turn

GOOD = "感冒多由病毒引起，通常一周左右自愈。注意休息、多喝水，体温超过38.5℃可遵医嘱使用退热药，症状加重请及时就诊。"
MODEL = "作为一个人工智能语言模型，我无法"


def talk(*contents: str, pool: Pool = "medical") -> Dialogue:
    roles = ("user", "assistant") * len(contents)
    return Dialogue(id="t:1", source="t", pool=pool, turns=tuple(Turn(role, text) for role, text in zip(roles, contents, strict=False)))


def look(record: Dialogue, *names: str, settings: PoolRules | None = None) -> tuple[str, str | Seen]:
    """(reason, what was seen) of the first rule, or the first named one, that fires; ('', '') where none does."""
    settings = settings or (GeneralRules(min_answer_chars=40) if record.pool == "general" else PoolRules())
    case = Case.of(record, settings, boilerplate=frozenset({"以上内容由本站会员整理"}))
    for rule in chosen(names or tuple(rule.name for rule in all_rules())):
        if (seen := rule.find(case)) is not None:
            return rule.name, seen
    return "", ""


@pytest.mark.parametrize(
    ("reason", "question", "answer"),
    [
        ("short_answer", "感冒了怎么办？", "多喝水。"),
        ("short_answer", "头晕该如何治疗？", "吃药"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起，一般一周左右可以好，建议您"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起。平时注意休息，如果体温持续升高"),
        ("cut_off", "感冒了怎么办？", "感冒多由病毒引起，治疗时需要注意以下几点："),
        ("cut_off", "补铁吃什么好？", "多吃含铁的食物，比如猪肝、菠菜、木耳、"),
        ("cut_off", "胃疼怎么办？", "先做胃镜检查，明确病因。对于胃病严重的人来说，"),
        ("loop", "感冒了怎么办？", "多喝水，注意休息。" * 5),
        ("loop", "感冒了怎么办？", "感冒要多休息感冒要多喝水" * 6),
        ("refusal", "感冒吃什么药？", f"{MODEL}提供医疗建议，请咨询医生。"),
        ("refusal", "感冒吃什么药？", "很抱歉，我不能为您提供诊断，请咨询专业人士。"),
        ("refusal", "感冒吃什么药？", "对不起，由于我是一个AI，无法开药。如果您愿意，我可以帮您找附近的药店。"),
        ("foreign_language", "感冒吃什么药？", "You should drink more water and take a rest for some days."),
        ("foreign_language", "感冒吃什么药？", "かぜのときはゆっくりやすんでください。みずをたくさんのみましょう。"),
        ("question_echo", "感冒以后一直咳嗽怎么办？", "感冒以后一直咳嗽怎么办？"),
        ("skipped_number", "感冒怎么办？", "1.多喝水，注意休息。\n2.清淡饮食，忌辛辣。\n4.症状加重及时就诊。"),
        ("skipped_number", "感冒怎么办？", "①多喝水，注意休息。\n③症状加重及时就诊。"),
        ("personal_data", "感冒怎么办？", "注意休息，可以打我的手机13800001234详细问。"),
        ("colloquial", "感冒怎么办？", "哈哈亲，这个嘛，嗯嗯，没啥事的啦，别瞎想哦～"),
        ("irrelevant", "感冒怎么办？", "谢谢您的提问，祝您生活愉快！"),
        ("irrelevant", "感冒怎么办？", "已关注，同问，坐等医生来回答。"),
        ("irrelevant", "感冒怎么办？", "如果我的回答对您有帮助，请点击下方的“采纳”按钮，感谢您的支持。"),
        ("boilerplate", "感冒怎么办？", "以上内容由本站会员整理。"),
        ("advertising", "白癜风怎么治？", "我院采用德国进口技术，无效退款，点击咨询在线客服了解详情。"),
        ("advertising", "肝炎能好吗？", "可以做干细胞疗法，这是最好的疗法，治愈率高达95%。"),
        (
            "other_question",
            "得了灰指甲很多年，指甲变厚变黄，抹什么药膏好？",
            "月经推迟一周可以先用试纸测一下，排除怀孕；月经一直不来请到妇科就诊。",
        ),
        ("garbage", "感冒怎么办？", "！！！？？？……"),
        ("garbage", "感冒怎么办？", "鐨勬槸浠涓鍦\ufffd\ufffd\ufffd锟斤拷锟斤拷多喝水"),
        ("garbage", "？？", GOOD),
    ],
)
def test_each_rule_names_its_reason(reason: str, question: str, answer: str) -> None:
    assert look(talk(question, answer))[0] == reason


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("感冒了怎么办？", GOOD),
        ("诊断是什么？", "考虑为心源性肝硬化，建议完善检查"),  # no full stop, and complete
        ("最可能的诊断是什么？", "心肌炎"),  # a word is all that was asked for
        ("发病率是多少？", "0.05%"),
        ("为什么会头晕？", "贫血"),
        ("这个肿块该怎么治疗？", "需手术切除。"),
        ("这两种病有关系吗？", "无关"),
        ("这个病严重吗？", "建议及时到正规医院就诊，在医生指导下治疗就可以"),
        ("感冒了怎么办？", "感冒多由病毒引起，平时注意休息，多吃新鲜蔬菜，"),  # sloppy, and complete
        ("不舒服怎么办？", "也可以吃点腰花、韭菜，平时多休息，都可以的、"),
        ("两种病的病因有何不同？", "前者为尿酸过高，后者的病因为链球菌感染"),
        ("孕妇能用吗？", "检查结果没有出来以前，这种药膏最好不要"),
        ("请扮演电话银行。", "欢迎来电，办理业务请先说明需求，然后请输入您的选项编号："),
        ("指标高是为什么？", "这个指标的高低，与年龄、体重和平时的运动关于"),  # 有关, machine-paraphrased
        ("他的病情可能是急性胃黏膜出血吗？", "他的病情可能是急性胃黏膜出血。"),
        ("吃什么药好？", "您好，建议您到医院就诊，在医生指导下用药，祝您早日康复！"),
        ("为什么会血压高？", "我院门诊常见这种情况，多与盐吃得多、缺少运动有关，建议监测血压。"),
        ("怎么按摩？", "1.先用热水泡脚。\n2.按揉涌泉穴。\n饮食方面：\n1.少盐。\n2.少油。"),
        ("怎么治？", "1.休息。\n2.冷敷，共3.5小时，见3、抬高患肢。\n4.及时就诊。"),
        ("怎么治？", "①，先查明病因②，再用药③，注意休息。④，定期复查。"),
        ("怎么治？", "1．先查听力，再看鼓膜。2。用药要遵医嘱。3．如有眩晕及时就诊。"),
        ("请说明合同的第1条和第4条。", "1.双方自愿签订本合同，不得反悔。\n4.违约一方应当承担赔偿责任。"),
        ("乙肝病毒载量20807000，严重吗？", "20100918的结果是20807000，说明病毒复制活跃，请到感染科就诊。"),
        ("怎么预防感冒？", "多运动，多喝水，多通风。天冷时出门加衣，人多的地方戴口罩，手要勤洗呀。"),
        ("有效率多高？", "病死率为25%～30%，复发率为20%～25%，咯血者更高，约5～15岁多见。"),
        ("她该用哪些药物？", "['alirocumab', 'evolocumab', 'rosuvastatin']"),  # names, not a language
        (
            "手指关节疼是怎么回事？",
            f"{MODEL}确定病因。但一般来说，常见的原因有劳损、受凉和关节炎；先少提重物，热敷几天，不见好转再去拍片检查。",
        ),
        ("白癜风能根治吗？", "祖传秘方大多不可信，目前没有能根治的办法，请到正规医院皮肤科就诊。"),
        ("一名男性患者乏力、脱发、贫血，鼻梁塌陷，是什么病？", "考虑梅毒的可能，需要做梅毒螺旋体抗体等化验进一步明确。"),
        ("怀孕三个月大便干，怎么办？", "便秘可以多吃蔬菜和粗粮，便秘严重时用开塞露，注意不要用力。"),  # takes up a word of its question
    ],
)
def test_sound_answers_stay(question: str, answer: str) -> None:
    assert look(talk(question, answer)) == ("", "")


def test_an_answer_that_the_question_offers_is_no_courtesy() -> None:
    settings = PoolRules(min_answer_chars=1)
    assert look(talk("顾客说等太久了。他满意还是不满意？回答“满意”或“不满意”。", "不满意"), settings=settings) == ("", "")


def test_what_was_seen_says_where() -> None:
    record = talk("头痛", "哪里痛？", "前额", "1.多休息。\n2.少熬夜。\n5.及时就诊。")
    assert look(record, "skipped_number") == ("skipped_number", Seen("5 follows 2", 3, 7, 16))
    text = "平时多休息。" * 40 + "如果头痛持续加重"
    assert look(talk("头痛", text), "cut_off")[1] == Seen("a condition without consequence: '如果头痛持续加重'", 1, 240, 248)
    for rule in all_rules():
        for content in (text, "多喝水，注意休息。" * 5, "我院采用德国进口技术，无效退款。", f"{MODEL}提供建议。", "打我手机13800001234。"):
            reason, seen = look(talk("头痛", content), rule.name)
            if isinstance(seen, Seen):
                assert 0 <= seen.start < seen.end <= len(content) and seen.turn == 1, (reason, seen)


def test_a_dialogue_is_refused_where_most_answers_are() -> None:
    decline = f"{MODEL}提供建议。"
    assert look(talk("头痛吃什么药？", decline, "那怎么办？", GOOD), "refusal")[0] == ""
    assert look(talk("头痛吃什么药？", decline, "那怎么办？", decline, "好吧", GOOD), "refusal")[0] == "refusal"
    assert look(talk("头痛吃什么药？", decline, "那怎么办？", GOOD), "refusal", settings=PoolRules(max_refusal_share=0.4))[0] == "refusal"


def test_general_answers_may_speak_of_selling_and_of_themselves() -> None:
    settings = PoolRules(min_answer_chars=0)
    selling = ("怎么给保健品写营销文案？", "可以写限时优惠、买一送一，再附上在线客服的链接，并强调三个疗程见效的口碑。")
    itself = ("你是谁？你能看到图片吗？", f"{MODEL}看到图片，我只处理文字。")
    for question, answer in (selling, itself):
        assert look(talk(question, answer, pool="general"), settings=settings) == ("", "")
        assert look(talk(question, answer), settings=settings)[0] in ("advertising", "refusal")


def test_signs_of_advertising_must_meet_in_one_answer() -> None:
    one, other = "我院采用新技术，" + GOOD, "三个疗程就能见效。" + GOOD
    assert look(talk("头痛", one, "还有呢？", other), "advertising")[0] == ""
    assert look(talk("头痛", one + other), "advertising")[0] == "advertising"


def test_text_without_a_loop_costs_little_to_search() -> None:
    first = "".join(chr(0x4E00 + 7 * number % 5000) for number in range(300))
    for answer in (first * 3 + "止" * 4100, (first * 3)[:999] + "，" + first * 13, "甲乙丙" * 3 + "".join(map(str, range(1500)))):
        start = time.process_time()
        look(talk("感冒怎么办？", answer), "loop")
        assert time.process_time() - start < 0.05
    assert look(talk("怎么办？", "1.多喝水" * 4), "loop")[1] == Seen("over and over '1.多喝水'", 1, 0, 20)
    assert look(talk("怎么办？", "-" * 60 + "多喝水注意休息" * 9), "loop")[0] == "loop"


def test_a_number_of_any_length_is_no_obstacle() -> None:
    assert look(talk("9" * 5000, "1.休息。\n2.喝水。\n4.就诊。" + "8" * 5000), "skipped_number")[0] == "skipped_number"


def test_in_a_consultation_short_turns_are_fine() -> None:
    assert look(talk("头痛", "多久了？", "三天", "建议到神经内科就诊，完善头颅检查，期间注意休息。")) == ("", "")
    assert look(talk("头痛", "多久了？", "三天", "好的。"))[0] == "short_answer"


def test_pools_have_their_own_thresholds() -> None:
    answer = "读书使人明理，也使人安静。"
    assert look(talk("读书有什么好处？", answer)) == ("", "")
    assert look(talk("读书有什么好处？", answer, pool="general")) == ("short_answer", "13 characters")
    english = talk("把“早上好”翻译成英文", "The English for this greeting is: good morning, my dear friends.", pool="general")
    assert look(english) == ("", "")


def test_a_recipe_that_changes_one_general_threshold_keeps_the_others() -> None:
    assert convert({"min_answer_chars": 100}, GeneralRules, "recipe") == GeneralRules(min_answer_chars=100)
    assert GeneralRules(min_answer_chars=100).min_advertising_signs == 4


def test_answers_are_counted_in_tokens_of_the_named_tokenizer(tmp_path: Path, checkpoint: Path) -> None:
    answer = "读书使人明理，也使人安静。"
    config = tokenizer.Config(vocab_size=400)
    model = tokenizer.train(["读书使人明理。", "高血压患者应低盐饮食。", "Human: 1. 休息", "也使人安静，"] * 20, config)
    (tmp_path / "alone.model").write_bytes(model)
    from sentencepiece import SentencePieceProcessor

    counted = len(SentencePieceProcessor(model_proto=model).encode(answer))
    for more, expected in ((0, ("", "")), (1, ("short_answer", f"{counted} tokens"))):
        settings = PoolRules(min_answer_tokens=counted + more, tokenizer=str(tmp_path / "alone.model"))
        assert look(talk("读书有什么好处？", answer), settings=settings) == expected
    in_folder = PoolRules(min_answer_tokens=1000, tokenizer=str(checkpoint))
    assert look(talk("读书有什么好处？", answer), settings=in_folder)[0] == "short_answer"


def test_a_tokenizer_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.model").write_bytes(b"no model")
    (tmp_path / "damaged.json").write_bytes(b"no json")
    for name, message in (("absent", "no such file"), ("damaged.model", "cannot be read"), ("damaged.json", "cannot be read")):
        settings = PoolRules(min_answer_tokens=5, tokenizer=str(tmp_path / name))
        with pytest.raises(ValueError, match=f"tokenizer .*{name}: {message}"):
            look(talk("头痛怎么治？", GOOD), settings=settings)
    with pytest.raises(ValueError, match="no tokenizer is named"):
        PoolRules(min_answer_tokens=5)


def test_only_the_named_rules_speak() -> None:
    assert look(talk("感冒了怎么办？", "多喝水。"), "loop") == ("", "")


def test_unknown_names_fail_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="rules: unknown name 'short_anser'; did you mean 'short_answer'"):
        check_names("rules", ("short_anser",), tuple(rule.name for rule in all_rules()))


def test_thresholds_out_of_range_fail() -> None:
    with pytest.raises(ValueError, match="max_junk_share is 2"):
        PoolRules(max_junk_share=2)
    with pytest.raises(ValueError, match="max_repeats is 0"):
        GeneralRules(max_repeats=0)


def test_every_rule_is_documented() -> None:
    assert {rule.name for rule in all_rules() if not rule.find.__doc__} == set()
    assert len(all_rules()) == 14
