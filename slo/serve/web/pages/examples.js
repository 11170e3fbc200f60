// Texts to click: pairs that mean the same, pairs that do not, and one question against several answers.

export const EXAMPLES = [
  { kind: "related", a: "今天天气真不错", b: ["今天阳光明媚，适合出门"] },
  { kind: "unrelated", a: "今天天气真不错", b: ["这个数据库的索引需要重建"] },
  { kind: "related", a: "如何重置我的账户密码", b: ["忘记登录密码了，怎么找回"] },
  { kind: "unrelated", a: "如何重置我的账户密码", b: ["这家餐厅的红烧肉很好吃"] },
  { kind: "related", a: "人工智能正在改变我们的生活", b: ["AI 技术让生活方式发生了变化"] },
  {
    kind: "many",
    a: "怎样做番茄炒蛋",
    b: ["番茄切块，鸡蛋打散，先炒蛋再炒番茄", "西红柿炒鸡蛋的家常做法", "鸡蛋的营养价值", "周末去哪里爬山", "显卡驱动安装失败怎么办"],
  },
];
