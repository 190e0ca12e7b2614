"""Simple Chinese: sheets, questions, answers and small talk, in the same spirit as the English ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.exchange import Exchange
from training.lexicon import Draw
from training.phrasings import Phrasings, phrasings

if TYPE_CHECKING:
    import random

    from training.phrasings import Split

SURNAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉萍红玲芬燕彬鹏浩宇轩子涵梓雨欣怡佳琪思嘉诚俊峰志国建晓东海波宁博文昊天泽润德仁义礼智信安康乐春夏秋冬梅兰竹菊松柏青云山川河星月阳光辉晨曦若兮清雅诗韵墨书画棋琴瑶琳珊瑾瑜璐婷妍倩蓉薇菲露莹洁雪冰霜凌寒远航翔飞鸿鹤燕莺"
PLACES = "东西南北中新安长宁和平海江河湖山云龙凤金银花果林石松柳梅兰竹青白红明光华福寿康乐永兴盛泰昌文武德仁义礼智信天地星月春夏秋冬春晓"
VENUES = "博物馆 医院 图书馆 酒店 车站 大学 美术馆 剧院 电影院 动物园 水族馆 游泳馆 健身房 书店 超市 药店 社区中心 科技馆 会议中心 植物园 商场 餐厅 诊所 体育馆 学校 展览馆".split()
FACILITIES = "咖啡厅 餐厅 洗手间 电梯 礼品店 寄存处 服务台 售票处 停车场 急救室 母婴室 自动取款机 失物招领处 打印店 游泳池 健身房 会议室 报告厅 阅览室 药房 放射科 急诊室 化验室 候诊室 出租车站 公交站 吸烟区 休息室 商务中心 儿童乐园 花园 档案室 音乐教室 琴房 理发店 眼科 牙科 儿科 展厅 放映厅 充电桩 饮水机".split()
ROLES = "馆长 院长 经理 主任 护士长 保安队长 图书管理员 讲解员 厨师长 技术员 秘书 校长 教务主任 店长 总监 会计 导游 站长 眼科医生 牙医 儿科医生 心理医生 教练 钢琴老师 瑜伽老师 志愿者负责人".split()
GOODS = "成人票 儿童票 学生票 老人票 家庭票 团体票 年卡 月卡 语音导览 储物柜 停车 早餐 午餐套餐 咖啡 绿茶 矿泉水 三明治 牛肉面 炒饭 饺子 蛋糕 冰淇淋 明信片 海报 毛巾 单人间 双人间 套房 自行车租赁 船票 接机服务 复印 彩色打印 护照照片 体检 洗牙 理发 按摩 瑜伽课 游泳课".split()
EVENTS = "讲座 音乐会 书法课 国画课 茶艺课 象棋比赛 读书会 电影放映 瑜伽课 舞蹈课 摄影展 亲子活动 导览 陶艺课 诗歌朗诵 钢琴演奏 英语角 编程课 剪纸课 天文观测".split()
SPOTS = "入口左侧 入口右侧 走廊尽头 电梯旁边 楼梯旁边 大厅中央 服务台对面 喷泉后面 北门旁边 南门旁边 大钟下面 书店对面 花园里 院子里 东侧 西侧".split()
NUMERALS = "一二三四五六七八九"
WEEK = "周一 周二 周三 周四 周五 周六 周日".split()

ASK_HOURS = phrasings(
    "(请问|你好，|那个，|)(你们|这里|)(几点开门|什么时候开门|几点关门|的开放时间|营业时间是什么|从几点开到几点|开到几点|什么时间可以进去参观|几点到几点开放|什么时候可以来)(？|)\n几点开门？\n什么时候开门？\n开放时间是什么？\n营业时间是几点到几点？\n你们几点开门，几点关门？\n请问开门时间？\n几点关门？\n* 什么时间可以进去参观？\n* 一天里从几点开到几点？"
)
ASK_DAY = phrasings(
    "(请问|你好，|)(你们|我|)({d}几点开门|{d}开门吗|{d}几点关门|{d}什么时候开放|{d}从几点开到几点|{d}来几点可以进|{d}的营业时间|{d}的开放时间|{d}可以来吗)(？|)\n{d}几点开门？\n{d}开门吗？\n{d}的开放时间是什么？\n请问{d}几点关门？\n{d}什么时候开放？\n* {d}从几点开到几点？\n* 我{d}来，几点可以进？"
)
FOLLOW_DAY = phrasings(
    "(那|那么|还有|换成|如果是|)({d}呢|{d}怎么样|{d}也一样吗)(？|)\n那{d}呢？\n{d}呢？\n那么{d}呢？\n* 换成{d}呢？"
)
ASK = {
    "place": phrasings("(请问|你好，|麻烦问一下，|)(去|找|)({k}在哪里|{k}在哪儿|{k}在几楼|{k}在什么地方|{k}的位置|{k}怎么走|{k}怎么去|{k}要往哪边走|{k}的位置在什么地方|{k}在哪一层)(？|)\n{k}在哪里？\n{k}在哪儿？\n请问{k}怎么走？\n我在找{k}。\n{k}在几楼？\n哪里有{k}？\n* {k}的位置在什么地方？\n* 去{k}要往哪边走？"),
    "money": phrasings("(请问|你好，|)(买|一份|)({k}多少钱|{k}要多少钱|{k}的价格|{k}怎么卖|{k}收费多少|{k}得花多少|{k}得花多少钱|{k}贵吗|{k}是什么价|{k}要花多少)(？|)\n{k}多少钱？\n{k}的价格是多少？\n请问{k}多少钱？\n{k}怎么卖？\n{k}要多少钱？\n* {k}收费多少？\n* 买{k}得花多少？"),
    "phone": phrasings("(请问|你好，|)(联系|打给|)({k}的电话|{k}电话是多少|{k}的电话号码|{k}打什么电话|{k}要拨哪个号码|{k}拨什么号码|{k}的号码是多少|{k}怎么打电话)(？|)\n{k}的电话是多少？\n怎么打电话给{k}？\n请问{k}的电话号码？\n{k}电话多少？\n* {k}要拨哪个号码？\n* 联系{k}打什么电话？"),
    "name": phrasings("(请问|你好，|)(谁是{k}|{k}是谁|{k}叫什么|{k}叫什么名字|哪一位是{k}|哪位是{k}|{k}由谁担任|{k}是哪位|{k}的名字)(？|)\n{k}是谁？\n{k}叫什么名字？\n请问谁是{k}？\n{k}的名字是什么？\n* 哪一位是{k}？\n* {k}由谁担任？"),
    "time": phrasings("(请问|你好，|)({k}几点开始|{k}是几点|{k}什么时候开始|{k}从几点起|{k}哪个钟点开始|{k}的开始时间|{k}什么时间|{k}几点)(？|)\n{k}几点开始？\n{k}是什么时候？\n请问{k}几点？\n{k}的时间是几点？\n* {k}从几点起？\n* {k}哪个钟点开始？"),
    "code": phrasings("(请问|你好，|)(无线网密码是多少|WiFi密码是什么|上网密码|上网用什么密码|连无线要输入什么|无线密码是什么|怎么连WiFi|WiFi怎么用)(？|)\n无线网密码是多少？\nWiFi密码是什么？\n怎么连WiFi？\n请问无线密码？\n* 上网用什么密码？\n* 连无线要输入什么？"),
    "address": phrasings("(请问|你好，|)(地址是什么|你们的地址|这里是什么地址|你们位于什么路|这里是什么路|打车过来说什么地址|该说什么地址|地址在哪|怎么找到你们)(？|)\n地址是什么？\n你们在哪里？\n请问你们的地址？\n这里是什么地址？\n* 你们位于什么路？\n* 打车过来该说什么地址？"),
}  # fmt: skip
FOLLOW = phrasings(
    "(那|那么|还有|换成|)({k}呢|{k}怎么样|{k}也说一下)(？|)\n那{k}呢？\n{k}呢？\n还有{k}呢？\n* 换成{k}呢？"
)
ANSWERS = {
    "place": "{k}在{v}。", "money": "{k}的价格是{v}。", "phone": "{k}的电话是{v}。", "name": "{k}是{v}。", "time": "{k}{v}开始。",
    "code": "无线网密码是{v}。", "address": "地址是{v}。",
}  # fmt: skip
UNKNOWN = {
    "place": "{k}在哪里", "money": "{k}的价格", "phone": "{k}的电话", "name": "{k}是谁", "time": "{k}几点开始", "code": "无线网密码",
    "address": "地址",
}  # fmt: skip
PROSE = {
    "place": phrasings("{k}在{v}。\n{k}位于{v}。\n您可以在{v}找到{k}。\n* 想去{k}请到{v}。"),
    "money": phrasings("{k}{v}。\n{k}的价格是{v}。\n{k}售价{v}。\n* 购买{k}需付{v}。"),
    "phone": phrasings("{k}电话：{v}。\n{k}的电话是{v}。\n联系{k}请拨打{v}。\n* {k}可拨{v}。"),
    "name": phrasings("{k}是{v}。\n{v}是{k}。\n{k}由{v}担任。\n* 现任{k}为{v}。"),
    "time": phrasings("{k}{v}开始。\n{k}的时间是{v}。\n* {k}从{v}起。"),
    "code": phrasings("无线网密码是{v}。\n* 上网密码为{v}。"),
    "address": phrasings("地址是{v}。\n我们位于{v}。\n* 来访请到{v}。"),
}  # fmt: skip
PREAMBLES = phrasings(
    "你是{n}的问答助手。\n{n}信息：\n你是{n}的自助服务机，请根据以下信息回答。\n欢迎来到{n}！\n{n}\n你在{n}工作，请简短回答。\n* 以下是{n}的资料，请只依据资料回答。\n* {n}参观须知"
)
TALK: tuple[tuple[str, Phrasings, str], ...] = (
    ("greeting", phrasings("(你好|您好|嗨|哈喽|早上好|下午好|晚上好|大家好|你们好|早安)(|！|。|呀|啊|，在吗|，有人吗)\n你好\n你好！\n您好\n嗨\n早上好\n下午好！\n晚上好\n* 哈喽\n* 大家好"), "您好！请问有什么可以帮您？"),
    ("identity", phrasings("(请问|你好，|)(你是谁|您是哪位|你是什么|你叫什么|你叫什么名字|你是机器人吗|你是真人吗|你是人吗|谁开发了你)(？|)\n你是谁？\n你叫什么名字？\n你是机器人吗？\n你是什么？\n你是人吗？\n介绍一下你自己\n* 请问您是哪位？\n* 你是真人吗？"), "我是问答助手，一个在本机运行的小型语言模型，根据给我的信息回答问题。"),
    ("identity", phrasings("(请问|你好，|)(你能做什么|你会什么|你有什么本领|可以帮帮我吗|你能帮我吗|我可以问什么|你能回答什么|怎么用你)(？|)\n你能做什么？\n你会什么？\n我可以问你什么？\n你能帮我吗？\n* 你有什么本领？\n* 可以帮帮我吗？"), "我可以根据给我的信息回答问题，例如开放时间、价格、位置和人员。"),
    ("small talk", phrasings("(谢谢|多谢|非常感谢|感谢|太谢谢了|谢谢您|谢谢你)(|！|。|的帮助|啦|，很有用)\n谢谢\n谢谢你！\n多谢\n非常感谢\n好的，谢谢\n* 感谢您的帮助\n* 太谢谢了"), "不客气！"),
    ("small talk", phrasings("(再见|拜拜|回头见|下次见|明天见|我走了|没有问题了)(|！|。|啦|，谢谢)\n再见\n拜拜\n再见！\n我走了\n* 回头见\n* 下次见"), "再见！祝您愉快。"),
    ("general", phrasings("(法国|日本|意大利|德国|美国|英国|巴西)的(首都|总统|人口|国旗|语言)是什么？\n(太阳|月亮|珠峰|北京|火星)有多(远|高|大|热|重)？\n(给我|)(讲个|写一首|唱首|来个)(笑话|诗|歌|故事)(|吧|好吗)\n(明天|今天|后天|周末)(会下雨吗|天气怎么样|冷不冷|热不热)(？|)\n(三|五|七|九)(加|乘|减)(二|四|六|八)等于几？\n今天天气怎么样？\n法国的首都是哪里？\n讲个笑话\n一加一等于几？\n写一首诗\n谁是美国总统？\n唱首歌吧\n世界上最高的山是什么？\n* 太阳有多远？\n* 意大利的首都是哪里？\n* 给我讲个故事"), "我不知道。我只能根据给我的信息回答问题。"),
)  # fmt: skip


def _name(draw: Draw) -> str:
    rng = draw.rng
    rare = rng.random() < 0.05
    pool = [chr(code) for code in range(0x4E00, 0x9FA5, 37)] if rare else list(GIVEN)
    return draw.until(lambda: rng.choice(SURNAMES) + "".join(rng.choice(pool) for _ in range(rng.choice((1, 2, 2)))))


def _place(draw: Draw) -> str:
    rng = draw.rng

    def make() -> str:
        floor = rng.choice(
            (f"{rng.choice(NUMERALS)}楼", f"{rng.randint(1, 9)}层", "一楼大厅", f"{rng.choice('ABCDEF')}座", "地下一层")
        )
        spot = rng.choice(SPOTS) if rng.random() < 0.6 else f"{draw.digits(3)}室"
        return floor + spot if rng.random() < 0.8 else spot

    return draw.until(make)


def _value(draw: Draw, kind: str) -> str:
    rng = draw.rng
    if kind == "place":
        return _place(draw)
    if kind == "money":
        return draw.until(lambda: f"{rng.randint(1, 300)}{rng.choice(('', '', '.5', '.8'))}元")
    if kind == "phone":
        return draw.phone() if rng.random() < 0.8 else draw.extension()
    if kind == "name":
        return _name(draw)
    if kind == "time":
        return _clock(draw, draw.clock(7, 21))
    if kind == "code":
        return draw.code()
    return draw.until(
        lambda: f"{''.join(rng.sample(PLACES, 2))}{rng.choice('路街')}{draw.digits(rng.choice((1, 2, 3)))}号"
    )


def _clock(draw: Draw, minutes: int) -> str:
    hour, minute = divmod(minutes, 60)
    if draw.style.time in ("am", "a.m.", "xam", "AM"):
        return f"{hour}点" + (f"{minute}分" if minute else "")
    return f"{hour:02d}:{minute:02d}" if draw.style.time == "09:00" else f"{hour}:{minute:02d}"


def chinese_dialogue(rng: random.Random, split: Split) -> tuple[str | None, list[Exchange], dict[str, set[str]]]:
    """A Chinese conversation: system message, exchanges, and the sheet's values by kind."""
    draw = Draw(rng, split)
    if rng.random() < 0.12:
        return (
            rng.choice((None, None, "", "You are a helpful assistant.", "你是一个助手。")),
            [_small_talk(draw) for _ in range(rng.randint(1, 3))],
            {},
        )
    name = draw.until(lambda: "".join(rng.sample(PLACES, rng.choice((1, 2, 2, 3))))) + rng.choice(VENUES)
    facts: list[tuple[str, str, str]] = []
    for kind, pool in (
        ("place", FACILITIES),
        ("money", GOODS),
        ("phone", FACILITIES),
        ("name", ROLES),
        ("time", EVENTS),
    ):
        if rng.random() < 0.6:
            facts += [(kind, key, _value(draw, kind)) for key in rng.sample(pool, rng.randint(1, 4))]
    for kind, key in (("code", "无线网密码"), ("address", "地址")):
        if rng.random() < 0.3:
            facts.append((kind, key, _value(draw, kind)))
    hours: list[tuple[int, int, str, str]] = []
    if rng.random() < 0.75 or not facts:
        for start, end in rng.choice(
            (((0, 6),), ((0, 4), (5, 6)), ((1, 6),), ((0, 4),), ((0, 3), (4, 4), (5, 6)), ((0, 4), (5, 5)))
        ):
            hours.append((start, end, _clock(draw, draw.clock(6, 12)), _clock(draw, draw.clock(14, 22))))
    text = _print(draw, name, facts, hours)
    exchanges: list[Exchange] = []
    last: tuple[str, str, str] | None = None
    for _ in range(rng.choice((1, 3, 5, 7))):
        roll = rng.random()
        previous, last = last, None
        if exchanges and exchanges[-1].kind == "time" and "的开放时间" in exchanges[-1].answer and rng.random() < 0.4:
            exchanges.append(_ask_hours(draw, hours, follow=True))
        elif hours and roll < 0.22:
            exchanges.append(_ask_hours(draw, hours, follow=False))
        elif roll < 0.34:
            exchanges.append(_small_talk(draw))
        elif roll < 0.6:
            exchanges.append(_unknown(draw, text, facts))
        elif facts:
            last = rng.choice(facts)
            kind, key, value = last
            others = [fact for fact in facts if previous and fact[0] == previous[0] and fact != previous]
            wording = ASK[kind]
            if others and kind not in ("code", "address") and rng.random() < 0.5:
                last = rng.choice(others)
                kind, key, value = last
                wording = FOLLOW
            exchanges.append(
                Exchange(
                    draw.say(wording).format(k=key), ANSWERS[kind].format(k=key, v=value), "chinese", (value,), kind
                )
            )
    values: dict[str, set[str]] = {}
    for kind, _, value in facts:
        values.setdefault(kind, set()).add(value)
    return text, exchanges or [_small_talk(draw)], values


def _print(draw: Draw, name: str, facts: list[tuple[str, str, str]], hours: list[tuple[int, int, str, str]]) -> str:
    rng = draw.rng
    prose = rng.random() < 0.35
    bullet = rng.choice(("- ", "", "* ", "• ", "· ")) if draw.split == "train" else rng.choice(("+ ", "", "– "))
    colon = rng.choice(("：", "：", ": ", " - ")) if draw.split == "train" else rng.choice(("：", " -> ", "——"))
    lines = []
    for kind, key, value in facts:
        if prose:
            lines.append(draw.say(PROSE[kind]).format(k=key, v=value))
        else:
            label = f"{key}电话" if kind == "phone" else key
            lines.append(f"{bullet}{label}{colon}{value}")
    range_ = rng.choice(("–", "-", "至", "到", " - "))
    spans = [
        f"{_days(rng, first, last)}{'' if rng.random() < 0.5 else ' '}{opens}{range_}{closes}"
        for first, last, opens, closes in hours
    ]
    if spans:
        title = rng.choice(("开放时间", "营业时间", "开门时间"))
        lines.append(f"{title}为{'，'.join(spans)}。" if prose else f"{bullet}{title}{colon}{'，'.join(spans)}")
    rng.shuffle(lines)
    body = ("" if prose and rng.random() < 0.6 else "\n").join(lines)
    return draw.say(PREAMBLES).format(n=name) + "\n" + body if rng.random() < 0.92 else body


def _days(rng: random.Random, first: int, last: int) -> str:
    if (first, last) == (0, 6):
        return rng.choice(("每天", "周一至周日", "天天"))
    if first == last:
        return WEEK[first]
    if (first, last) == (5, 6) and rng.random() < 0.5:
        return "周末"
    return f"{WEEK[first]}{rng.choice(('至', '到', '-'))}{WEEK[last]}"


def _ask_hours(draw: Draw, hours: list[tuple[int, int, str, str]], *, follow: bool) -> Exchange:
    rng = draw.rng
    if not follow and rng.random() < 0.3:
        answer = "，".join(f"{_full_days(first, last)}{opens}到{closes}" for first, last, opens, closes in hours)
        must = tuple(text for entry in hours for text in entry[2:])
        return Exchange(draw.say(ASK_HOURS), f"我们的开放时间是{answer}。", "chinese", must)
    day = rng.randrange(7)
    question = draw.say(FOLLOW_DAY if follow else ASK_DAY).format(d=WEEK[day])
    entry = next((entry for entry in hours if entry[0] <= day <= entry[1]), None)
    if entry is None:
        return Exchange(question, f"我不知道{WEEK[day]}的开放时间，资料里没有写。", "chinese unknown", (), "time")
    return Exchange(
        question, f"{WEEK[day]}的开放时间是{entry[2]}到{entry[3]}。", "chinese", (entry[2], entry[3]), "time"
    )


def _full_days(first: int, last: int) -> str:
    if (first, last) == (0, 6):
        return "每天"
    return WEEK[first] if first == last else f"{WEEK[first]}至{WEEK[last]}"


def _unknown(draw: Draw, text: str, facts: list[tuple[str, str, str]]) -> Exchange:
    rng = draw.rng
    pools = {
        "place": FACILITIES,
        "money": GOODS,
        "phone": FACILITIES,
        "name": ROLES,
        "time": EVENTS,
        "code": ["密码"],
        "address": ["地址"],
    }
    while True:
        kind = rng.choice(list(pools))
        key = rng.choice(pools[kind])
        if kind == "phone" and any(fact[0] == "phone" and fact[1] == key for fact in facts):
            continue
        if kind != "phone" and key in text:
            continue
        return Exchange(
            draw.say(ASK[kind]).format(k=key),
            f"我不知道{UNKNOWN[kind].format(k=key)}，资料里没有写。",
            "chinese unknown",
            (),
            kind,
        )


def _small_talk(draw: Draw) -> Exchange:
    _, asks, answer = draw.rng.choice(TALK)
    return Exchange(draw.say(asks), answer, "chinese", (answer,))
