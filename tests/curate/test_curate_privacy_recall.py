"""Planted values of every kind, made from a seed, in hanzi, spaced, full-width and separated forms: how many are found."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from medchatzh.curate.privacy import DEFAULT_KINDS, KINDS, find, gate

NUM_EACH = 300
MIN_RECALL, MIN_KIND_RECALL = 0.99, 0.97

FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
SPOKEN = str.maketrans("0123456789", "零一二三四五六七八九")
# What stands before and after the value; in the test nothing, a space or an ideographic space joins them.
PLACES = {
    "mobile": """
        孩子烧退了，有事打我手机|，谢谢医生
        复查前请联系|预约
        我是家属|，麻烦回个电话
        电话：|（微信同号）
        结节不大，|随时问我
    """,
    "landline": """
        门诊电话|，上班时间打
        请拨打|挂号
        座机：|转内分泌科
        药房的电话是|。
        有疑问打电话|问护士站
    """,
    "hotline": """
        免费热线|，二十四小时有人
        请拨打|咨询
        客服|可以退药
        热线：|。
        预约挂号打|就行
    """,
    "email": """
        片子发到|就行
        我的邮箱是|，收到回复
        邮箱：|。
        报告请寄|谢谢
        联系|拿方案
    """,
    "id_card": """
        身份证号|，住院要用
        患者身份证：|。
        建档时填的是|，没有填错
        证件号码|已登记
        他的号码是|，五十岁
    """,
    "passport": """
        护照号|，外籍患者
        护照：|。
        本人护照号码是|，申请转诊
        持护照|就诊
        护照号码为|的患者
    """,
    "bank_card": """
        退费到银行卡|，谢谢
        卡号：|。
        请把押金退到|这张卡
        工行账号|户名不变
        药费转|就可以
    """,
    "qq": """
        加我QQ|发片子
        QQ：|。
        病友群QQ群号|，进群改名
        有问题加扣扣|细聊
        qq号是|，备注头痛
    """,
    "wechat": """
        加我微信|看片子
        微信：|。
        微信号是|，备注姓名
        薇信|咨询用药
        请加V信|领方案
        加vx：|预约
    """,
    "url": """
        我的主页|，可以留言
        加医生微博|看科普
        在线咨询：|。
        预约地址：|。
        详情见|谢谢
    """,
    "link": """
        详见|，
        我看了|上说的
        网址：|。
        链接 | 里有
        资料来自|，供参考
    """,
    "plate": """
        救护车牌号|，到东门接
        车牌：|。
        肇事车|撞伤患者后逃走
        停车登记|，家属在急诊
        开的是|的车
    """,
    "name": """
        医生我叫|，今年五十岁
        姓名：|，女，三十岁
        联系人：|。
        上次是找|医生看的
        请|主任医师会诊
        患者|，男，45岁，咳嗽三天
        姓名|性别男
        跟|教授约了复查
        主治医师：|。
        听|大夫说可以停药
    """,
    "hospital": """
        在|住过院
        去|查过胃镜
        就诊医院：| 心内科
        医生您好，|的报告看得懂吗
        从县里转到|，还是发烧
    """,
}
SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石"
    "廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔汤"
)
GIVEN = """
伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 娟 涛 明 超 刚 平 辉 玲 桂英 秀英 秀兰 玉兰 建国 建华 志强 志明 国强 文杰 海燕
晓燕 晓明 小红 小明 丽娟 桂兰 淑珍 凤英 玉珍 红梅 俊杰 浩然 子轩 宇轩 浩宇 梓涵 欣怡 诗涵 雨桐 思远 一诺 若曦 嘉怡
佳琪 雅婷 婷婷 丹丹 倩倩 鹏飞 天宇 德华 学友 家辉 永强 振华 光明 爱国 卫东 卫国 新民 春生 长青 庆华 宝珠 慧敏 文静
雪梅 立新 正阳 启明 怀玉 仲景 时珍 思邈 震南 剑炜 秀丽 韫珊 姣姣 旭东 博文 瑞霞 翠花 金凤 银环 树旺 福贵 长生 冬梅
素珍 月娥 彩霞 丽萍 锦程 泽楷 奕辰 梦瑶 雨欣 可馨 语嫣
"""
HOSPITALS = """
北京协和医院 北京大学第一医院 北京大学人民医院 中日友好医院 解放军总医院 中国人民解放军总医院 解放军第302医院
首都医科大学附属北京天坛医院 北京儿童医院 复旦大学附属华山医院 复旦大学附属中山医院 上海交通大学医学院附属瑞金医院
上海市第六人民医院 上海长海医院 四川大学华西医院 华西医院 中南大学湘雅医院 湘雅医院 武汉协和医院
华中科技大学同济医学院附属协和医院 郑州大学第一附属医院 浙江大学医学院附属第一医院 邵逸夫医院 南京鼓楼医院
江苏省人民医院 山东省立医院 山东大学齐鲁医院 西安交通大学第一附属医院 西京医院 中山大学附属第一医院 广东省人民医院
广东省中医院 南方医科大学南方医院 重庆医科大学附属儿童医院 天津医科大学总医院 天津市肿瘤医院 中国医科大学附属盛京医院
哈尔滨医科大学附属第二医院 吉林大学第一医院 河北医科大学第三医院 安徽医科大学第一附属医院 福建省妇幼保健院
厦门大学附属第一医院 昆明市儿童医院 云南省第一人民医院 贵州省人民医院 广西医科大学第一附属医院
新疆医科大学第一附属医院 兰州大学第二医院 温州医科大学附属眼视光医院 苏州大学附属第一医院
"""
CITIES = """
石家庄 太原 沈阳 长春 南京 徐州 杭州 宁波 合肥 福州 南昌 济南 潍坊 郑州 洛阳 武汉 宜昌 长沙 衡阳 广州 佛山 南宁 成都
绵阳 贵阳 昆明 西安 宝鸡 兰州 西宁
"""
WARDS = """
第一人民医院 第二人民医院 人民医院 中心医院 中医院 妇幼保健院 儿童医院 肿瘤医院 第三医院 口腔医院 传染病医院 胸科医院
第四人民医院 中医医院
"""


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices("0123456789", k=count))


def _grouped(draw: random.Random, digits: str, *cuts: int) -> str:
    """The digits cut into groups by a separator that people use, or not cut."""
    if draw.random() < 0.4:
        return digits
    separator = draw.choice([" ", "-", "-", "　", "－", "—", " - "])
    ends = [*cuts, len(digits)]
    return separator.join(digits[start:end] for start, end in zip([0, *cuts], ends, strict=True))


def _formed(draw: random.Random, value: str, *, spoken: bool = False) -> str:
    """The value as it is, in full width, or read out."""
    form = draw.random()
    if form < 0.25:
        return value.translate(FULL_WIDTH)
    return value.translate(SPOKEN) if spoken and form < 0.35 else value


def mobile(draw: random.Random) -> str:
    number = draw.choice(["13", "15", "18", "17", "19", "16", "14"]) + _digits(draw, 9)
    if draw.random() < 0.1:
        return " ".join(number)
    country = draw.choice(["", "", "", "", "+86", "+86 ", "86-", "0086"])
    return country + _formed(draw, _grouped(draw, number, *draw.choice([(3, 7), (3, 7), (3,), (7,), (4, 8)])), spoken=not country)


def landline(draw: random.Random) -> str:
    area = draw.choice(["010", "021", "022", "027", "028", "0371", "0755", "0531", "0571", "0898", "0991", "0452"])
    local = draw.choice("2345678") + _digits(draw, 7 if len(area) == 3 else draw.choice([6, 7]))
    if draw.random() < 0.15:
        return f"({area}){local}".translate({ord("("): "（", ord(")"): "）"} if draw.random() < 0.5 else {})
    if draw.random() < 0.1:
        return f"+86-{area[1:]}-{local}"
    forms = (f"{area}-{local}", f"{area} {local}", f"{area}{local}", f"{area}－{local[:4]} {local[4:]}", f"{area}—{local}")
    return _formed(draw, draw.choice(forms))


def hotline(draw: random.Random) -> str:
    number = draw.choice(["400", "400", "800"]) + draw.choice("0168") + _digits(draw, 5) + draw.choice("123579")
    return _formed(draw, _grouped(draw, number, *draw.choice([(3, 6), (3, 7), (4, 7), (3,)])), spoken=True)


def email(draw: random.Random) -> str:
    local = draw.choice(["wang", "li_na", "zhang.san", "doctor", "kangfu", "chen-xx"]) + _digits(draw, draw.randint(0, 6))
    local = draw.choice([local, _digits(draw, draw.randint(6, 10)).replace("0", "3")])
    host = draw.choice(["qq", "163", "126", "sina", "gmail", "hotmail", "hospital.org", "vip.sina", "pku.edu", "sohu"])
    tail = ".cn" if host.endswith(("org", "edu")) else draw.choice([".com", ".com", ".cn", ".net", ".com.cn"])
    at = draw.choice(["@", "@", "@", "＠", " @ ", "(at)", "艾特", "[at]", "（at）"])
    value = local + at + host + tail
    split = (value.replace(".c", "。c"), value.replace(".", " . "), value.replace(".com", "点com"))
    return draw.choice([value, value, value.translate(FULL_WIDTH), *split])


def id_card(draw: random.Random) -> str:
    region = draw.choice(["110105", "310104", "440106", "510107", "370102", "420106", "650102", "130102"])
    year, month, day = draw.randint(1935, 2020), draw.randint(1, 12), draw.randint(1, 28)
    if draw.random() < 0.15:
        return _formed(draw, f"{region}{year % 100:02}{month:02}{day:02}{_digits(draw, 3)}")
    first = f"{region}{year}{month:02}{day:02}{_digits(draw, 3)}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    last = "10X98765432"[sum(weight * int(digit) for weight, digit in zip(weights, first, strict=True)) % 11]
    return _formed(draw, _grouped(draw, first + draw.choice([last, last.lower()]), 6, 14))


def bank_card(draw: random.Random) -> str:
    long, short = ("622202", "621700", "622848", "9558801", "601382"), ("625962", "436742", "522001", "356390")
    prefix, length = draw.choice([*((prefix, 19) for prefix in long), *((prefix, 16) for prefix in short)])
    first = prefix + _digits(draw, length - len(prefix) - 1)
    total = sum(int(digit) if place % 2 else sum(map(int, str(2 * int(digit)))) for place, digit in enumerate(reversed(first)))
    return _formed(draw, _grouped(draw, first + str(-total % 10), *range(4, length, 4)))


def passport(draw: random.Random) -> str:
    if draw.random() < 0.3:
        return _formed(draw, "E" + draw.choice("ABCDEFGH") + _digits(draw, 7))
    return _formed(draw, draw.choice("EGEeDP") + draw.choice(["", "", " "]) + _digits(draw, 8))


def qq(draw: random.Random) -> str:
    number = draw.choice("123456789") + _digits(draw, draw.randint(5, 9))
    return draw.choice(["", "", " ", "："]) + _formed(draw, _grouped(draw, number, 3))


def wechat(draw: random.Random) -> str:
    value = draw.choice(["kangfu", "doctorli", "wxid_", "zxy", "yisheng-", "Mei_"]) + _digits(draw, draw.randint(3, 8))
    return draw.choice(["", "", " ", "："]) + _formed(draw, value)


def url(draw: random.Random) -> str:
    handle = draw.choice(["drli", "wangdaifu", "kangfu", "u", "zxy"]) + _digits(draw, 5)
    pages = (
        f"https://weibo.com/{handle}", f"http://www.weibo.com/u/{_digits(draw, 10)}", f"https://{handle}.haodf.com", f"t.me/{handle}",
        f"https://www.zhihu.com/people/{handle}", f"https://space.bilibili.com/{_digits(draw, 8)}", f"https://u.wechat.com/{handle}",
        f"https://qm.qq.com/cgi-bin/qm/qr?k={handle}", f"https://wa.me/86{_digits(draw, 11)}", f"http://blog.sina.com.cn/{handle}",
        f"https://v.douyin.com/{handle}/",
    )  # fmt: skip
    return draw.choice(pages)


def link(draw: random.Random) -> str:
    name = draw.choice(["abc", "health", "ganmao-120", "39"]) + _digits(draw, 2)
    tail = draw.choice(["", "/", f"/q/{_digits(draw, 6)}.html", "/?id=5&t=a"])
    host = draw.choice([f"www.{name}.com", f"www.{name}.org.cn", f"www.{name}。com", f"WWW.{name}.net"])
    return draw.choice([f"http://{name}.cn", f"https://m.{name}.com", host]) + tail


def plate(draw: random.Random) -> str:
    place = draw.choice("京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼")
    letter, five, four = draw.choice("ABCDEFGHJK"), _digits(draw, 5), _digits(draw, 4)
    number = draw.choice([five, f"{draw.choice('ABCKQ')}{four}", f"{four[:3]}ZK", f"D{five}", f"{five}F", f"FA{four}", f"{four}警"])
    joined = draw.choice(["{}{}{}", "{}{}·{}", "{}{} {}", "{} {}{}"]).format(place, letter, number)
    return joined.translate(FULL_WIDTH) if draw.random() < 0.2 else joined


def name(draw: random.Random) -> str:
    return draw.choice([*SURNAMES, *SURNAMES, "欧阳", "司马", "诸葛", "上官"]) + draw.choice(GIVEN.split())


def hospital(draw: random.Random) -> str:
    return draw.choice([draw.choice(HOSPITALS.split()), draw.choice(CITIES.split()) + draw.choice(["", "市"]) + draw.choice(WARDS.split())])


MAKERS: dict[str, Callable[[random.Random], str]] = {
    maker.__name__: maker
    for maker in (email, url, link, id_card, bank_card, passport, mobile, hotline, landline, qq, wechat, plate, name, hospital)
}


def planted(seed: int) -> list[tuple[str, str, int, int]]:
    """(kind, text, start, end of the value) of NUM_EACH items of every kind."""
    draw = random.Random(seed)
    items = []
    for kind, maker in MAKERS.items():
        for _ in range(NUM_EACH):
            value = maker(draw)
            before, after = draw.choice(PLACES[kind].split("\n")[1:-1]).strip(" ").split("|")
            if kind not in ("name", "hospital", "qq", "wechat") and draw.random() < 0.3:
                before += draw.choice([" ", "　"])
            if kind not in ("name", "hospital") and draw.random() < 0.2:
                after = " " + after
            # The colon that qq and wechat may begin with is no part of the value.
            core = value.lstrip(" ：") if kind in ("qq", "wechat") else value
            start = len(before) + len(value) - len(core)
            items.append((kind, before + value + after, start, start + len(core)))
    return items


@pytest.mark.parametrize("seed", [20250101, 7])
def test_planted_values_are_found(seed: int) -> None:
    items = planted(seed)
    assert set(MAKERS) == set(KINDS)
    assert len(items) >= 2000
    missed: Counter[str] = Counter()
    for kind, text, start, end in items:
        covered = any(found.kind == kind and found.start <= start and end <= found.end for found in find(text, KINDS))
        missed[kind] += not covered
        assert not covered or gate(text, KINDS)
    recalls = {kind: 1 - missed[kind] / NUM_EACH for kind in KINDS}
    assert min(recalls.values()) >= MIN_KIND_RECALL, recalls
    assert 1 - missed.total() / len(items) >= MIN_RECALL, recalls


def test_kinds_not_asked_for_are_left_alone() -> None:
    for kind, text, _, _ in planted(3):
        assert all(found.kind != kind for found in find(text, tuple(other for other in DEFAULT_KINDS if other != kind)))
