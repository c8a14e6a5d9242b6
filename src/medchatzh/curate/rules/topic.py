"""Answers that belong to another question: noisy labels and shuffled columns make them (cMedQA2's candidate answers: every other one)."""

from __future__ import annotations

import re
from collections import Counter

from medchatzh.curate.rules.registry import CONTENT, Case, Seen, rule

# Most frequent hanzi of 30,326 real question and answer pairs: what a question shares with an answer to any other question.
COMMON_HANZI = (
    "的有一病治可患是要性症现者不疗能等以和出发检查状时生了么物药为血如在诊常需进情体医多用行方食议同建好对就因心什这定应些意果大经岁及我期问"
    "下来该上过重并肝炎后饮个况感高会中素痛化于也断疾理小哪种救还复外据到细院人确根最吃或年动合而你身案引何前抗持部染免包怎女吗去当括很没内位"
    "水保次请平但活注毒正服功说实名制压力口使原自解面量除近间得清都防致天肿主再降想白助样结手关您所腹低明康男他其看乙作法比此较表三觉"
)

# Words that only one department's records use. Fever, children and the like stand everywhere, and are in none.
_TOPICS = {
    "孕产妇科": "怀孕 孕妇 胎儿 流产 人流 月经 痛经 闭经 例假 阴道 子宫 宫颈 宫外孕 卵巢 排卵 白带 盆腔炎 产后 哺乳 "
    "输卵管 早孕 孕期 避孕 附件炎 胎盘 剖腹产",
    "男科": "阴茎 包皮 前列腺 早泄 阳痿 遗精 滑精 精子 龟头 睾丸 精索 勃起 死精",
    "皮肤": "脚气 湿疹 荨麻疹 白癜风 痤疮 青春痘 牛皮癣 银屑病 灰指甲 狐臭 扁平疣 鱼鳞病 带状疱疹 痱子 雀斑 黄褐斑 脱发 手足癣 体癣 股癣",
    "肛肠": "痔疮 内痔 外痔 肛裂 肛瘘 脱肛 肛周脓肿",
    "眼": "近视 白内障 青光眼 结膜炎 角膜炎 麦粒肿 泪囊炎 散光 眼底 视网膜",
    "耳鼻喉": "鼻炎 鼻窦炎 中耳炎 耳鸣 耳聋 扁桃体 咽炎 喉炎 鼻息肉 声带",
    "口腔": "牙龈 蛀牙 龋齿 智齿 牙周炎 口腔溃疡 牙髓",
    "骨": "骨折 股骨头 腰椎 颈椎 关节炎 骨刺 韧带 腰肌 肩周炎 骨质增生 骨质疏松 半月板 滑膜炎 足跟痛 强直性脊柱炎 腱鞘炎",
    "心血管": "冠心病 心绞痛 心肌 心律失常 房颤 心衰 心力衰竭 心脏病 早搏 静脉曲张 先心病 高血压 降压药",
    "神经": "癫痫 脑梗 偏瘫 帕金森 偏头痛 脑瘫 面瘫 脑出血 脑淤血 中风 三叉神经痛 脑萎缩 老年痴呆 羊角风 脑炎",
    "精神": "抑郁症 焦虑症 精神分裂 强迫症 自闭症",
    "肝": "乙肝 甲肝 丙肝 肝炎 肝硬化 脂肪肝 大三阳 小三阳 肝腹水 转氨酶",
    "泌尿": "肾炎 尿毒症 肾病综合征 肾衰 肾积水 透析 肾囊肿 尿道炎 膀胱炎 尿路感染 肾结石 输尿管 尿结石",
    "胆胰": "胆结石 胆囊炎 胆囊息肉 胰腺炎",
    "胃肠": "胃炎 胃溃疡 十二指肠 肠炎 胃镜 胃酸 胃胀 胃痛 痢疾 阑尾炎 肠梗阻 胃病 胃下垂 便秘 消化不良",
    "肺": "肺炎 支气管炎 哮喘 肺结核 肺气肿 气胸 胸膜炎 慢阻肺",
    "血液": "白血病 血小板减少 紫癜 血友病 贫血",
    "甲状腺": "甲亢 甲减 甲状腺",
    "糖尿病": "糖尿病 血糖 胰岛素",
    "乳腺": "乳腺 乳房 乳头",
    "性病": "艾滋病 梅毒 淋病 尖锐湿疣 生殖器疱疹",
    "风湿": "类风湿 红斑狼疮 痛风 尿酸",
}  # fmt: skip
_TOPIC_OF = {term: topic for topic, terms in _TOPICS.items() for term in terms.split()}
_TERMS = re.compile("|".join(sorted(map(re.escape, _TOPIC_OF), key=len, reverse=True)))
# Examination questions: a case in the third person, or what a disease brings with it. Their answers rightly speak of another organ.
_EXAM = re.compile(
    r"一[名位]|患者(?!信息)|病人|病例|诊断|并发症|(?<!全部)症状|病因|体征|[男女][，,].{0,4}岁|[哪什]么?[些种]?(?:疾病|病)|检查|鉴别|治疗方案|先生|女士|小[王李张刘陈明红华杨赵]"
)
_RARE_HANZI = re.compile(f"[^{COMMON_HANZI}\\W0-9A-Za-z_]")
_WORD = re.compile("[A-Za-z]{2,}")
_MIN_RARE, _MIN_MENTIONS = 2, 2


@rule(CONTENT + 7, signs=tuple(_TOPIC_OF), gate=lambda features, _: (features.num_answers == 1) & (features.traits.shared_hanzi == 0))
def other_question(case: Case) -> Seen | None:
    """The answer is about another department's disease, and has not one of the question's rarer characters.

    An answer takes up a word of its question: of 7,602 real pairs (Toyhom) 94 % share a hanzi that is not among the 200 most common, of
    the same answers dealt out at random 52 %. Topics that contradict each other must come to it; that leaves 17 % of the dealt-out
    answers and none of 7,644 real pairs. Examination questions are not looked at: they lead from a symptom to an organ that they do not
    name.
    """
    if case.is_multi_turn:
        return None
    found = Counter(_TOPIC_OF[term] for term in _TERMS.findall(case.answer))
    asked = {_TOPIC_OF[term] for term in _TERMS.findall(case.question)} if found else set()
    if not asked or asked & found.keys():
        return None
    rare = set(_RARE_HANZI.findall(case.question))
    if len(rare) < _MIN_RARE or rare & set(case.answer) or _EXAM.search(case.question):
        return None
    if set(_WORD.findall(case.question.lower())) & set(_WORD.findall(case.answer.lower())):
        return None
    topic, mentions = found.most_common(1)[0]
    if mentions < _MIN_MENTIONS:
        return None
    first = next(match for match in _TERMS.finditer(case.answer) if _TOPIC_OF[match[0]] == topic)
    place = next(place for place, _ in case.answers())
    return Seen(f"asked about {'、'.join(sorted(asked))}, answers about {topic} ({mentions} ×)", place, *first.span())
