// Every word on the pages, Chinese and English side by side, and which of the two is shown.

const CHOICE = "slo-language";

const WORDS = {
  // shared
  skip: ["跳到主要内容", "Skip to content"],
  live: ["实时看板", "Live"],
  similarity: ["相似度", "Similarity"],
  pages: ["页面", "Pages"],
  language: ["English", "中文"],
  languageHint: ["Switch to English", "切换到中文"],
  theme: ["深浅色", "Theme"],
  themeHint: ["切换深色或浅色", "Switch between dark and light"],
  standIn: ["占位权重", "stand-in weights"],
  standInHint: [
    "正在使用占位权重：结构与计算量相同，耗时有代表性，但向量没有意义。",
    "Stand-in weights are loaded: same architecture and cost, so timings are representative; embeddings are not.",
  ],
  // connection and key
  connected: ["已连接 · {time}", "connected · {time}"],
  connecting: ["正在连接…", "connecting…"],
  reconnecting: ["正在重新连接…", "reconnecting…"],
  "failure.unreachable": ["服务器没有应答，正在重试。", "The server does not answer; trying again."],
  "failure.timeout": ["服务器没有及时应答。", "The server did not answer in time."],
  "failure.key": ["需要有效的 API key。", "A valid API key is needed."],
  "failure.forbidden": ["这个 key 没有权限。", "This key is not allowed to do that."],
  "failure.missing": ["没有找到该模型或接口，也许模型仍在加载。", "Model or route not found; the model may still be loading."],
  "failure.large": ["内容太大，请缩短文本。", "Too much text; please shorten it."],
  "failure.invalid": ["服务器不接受这个请求。", "The server did not accept this request."],
  "failure.busy": ["服务器正忙，为了守住延迟拒绝了请求，请稍后再试。", "The server is busy and refused, to keep its latency promise; try again shortly."],
  "failure.fault": ["服务器内部出错。", "The server ran into an error."],
  "failure.unreadable": ["服务器的应答无法读取。", "The server's answer cannot be read."],
  "failure.page": ["页面出错：{detail}", "The page ran into an error: {detail}"],
  keyTitle: ["请输入 API key", "Enter the API key"],
  keyHint: [
    "服务器开启了鉴权。key 只保存在当前标签页，关闭即清除。",
    "The server asks for authentication. The key is kept for this tab only and forgotten when it closes.",
  ],
  keyRefused: ["服务器不接受这个 key，请检查后再试。", "The server does not accept this key; please check it and try again."],
  keyLabel: ["API key", "API key"],
  keyUse: ["使用", "Use it"],
  keyForget: ["清除 key", "Forget key"],
  // verdict
  "verdict.met": ["达标", "Met"],
  "verdict.missed": ["未达标", "Missed"],
  "verdict.unproven": ["样本不足", "Unproven"],
  "verdict.unknown": ["没有数据", "No data"],
  "sentence.met": ["{objective} 达标：{good}/{total} 在限内", "{objective} met: {good} of {total} within the limit"],
  "sentence.missed": ["{objective} 未达标：{bad} 个超限或失败，共 {total}", "{objective} missed: {bad} of {total} late or failed"],
  "sentence.unproven": ["{objective} 尚不能下结论：{good}/{total} 在限内", "{objective} not decided yet: {good} of {total} within the limit"],
  "sentence.unknown": ["{objective}：这段时间没有请求", "{objective}: no requests in this window"],
  p95Now: ["P95 延迟 · 最近 {window}", "P95 latency · last {window}"],
  interval: ["95 % 置信区间 {low}–{high} ms", "95 % interval {low}–{high} ms"],
  headroom: ["低于上限 {ms} ms", "{ms} ms below the limit"],
  excess: ["超出上限 {ms} ms", "{ms} ms above the limit"],
  limit: ["上限 {ms} ms", "limit {ms} ms"],
  // attainment and budget
  attainment: ["SLO 达成率", "SLO attainment"],
  attainmentHint: ["在 {ms} ms 内正确应答的请求占比，目标 {target}", "Requests answered correctly within {ms} ms; target {target}"],
  budget: ["错误预算", "Error budget"],
  budgetLeft: ["剩余", "left"],
  budgetPeriod: ["周期 {period}", "over {period}"],
  budgetSince: ["自启动以来", "since start"],
  burn: ["消耗速率", "burn rate"],
  burnHint: ["1× 恰好在周期末用完", "1× spends it exactly by the end of the period"],
  exhausted: ["照此速度 {time} 后用完", "at this rate gone in {time}"],
  overspent: ["预算已用完", "budget spent"],
  steady: ["照此速度不会用完", "will last at this rate"],
  // tiles
  capacity: ["容量 {rate}", "max {rate}"],
  requestRate: ["请求速率", "Request rate"],
  meanRate: ["{window} {rate}", "{window}: {rate}"],
  perSecond: ["次/秒", "/s"],
  success: ["成功率", "Success rate"],
  inFlight: ["处理中", "In flight"],
  queued: ["排队 {tokens} tokens", "{tokens} tokens queued"],
  batch: ["每批 tokens", "Tokens per batch"],
  batchTexts: ["{texts} 条/批", "{texts} texts per batch"],
  truncated: ["{texts} 条超长，{characters} 字未读", "{texts} texts too long, {characters} characters not read"],
  cacheHits: ["缓存命中率", "Cache hit ratio"],
  cacheDetail: ["{hits} 次命中 / {total}", "{hits} of {total}"],
  "own.probe": ["另有探测 {good}/{total} 合格", "beside them {good}/{total} probes good"],
  "own.bench": ["另有测量 {good}/{total} 合格", "beside them {good}/{total} measurements good"],
  refused: ["被拒绝", "Refused"],
  refusedDetail: ["最近 {window}", "last {window}"],
  failed: ["失败 {failed} · 拒绝 {refused}", "{failed} failed · {refused} refused"],
  p50: ["P50", "P50"],
  p99: ["P99", "P99"],
  // charts
  timeline: ["延迟走势", "Latency over time"],
  range: ["时间范围", "Time range"],
  stored: ["来自监视器的历史", "from the watcher's history"],
  sinceStart: ["自服务启动以来", "since the server started"],
  traffic: ["请求量，最高 {count} / {step}", "Traffic, up to {count} per {step}"],
  distribution: ["延迟分布", "Latency distribution"],
  distributionHint: ["{within} 在 {ms} ms 以内", "{within} within {ms} ms"],
  requests: ["{count} 个请求", "{count} requests"],
  stages: ["耗时构成", "Where the time goes"],
  stagesHint: ["各阶段平均值与 P95", "mean of each stage, and its P95"],
  "stage.parse": ["解析", "parse"],
  "stage.queue": ["排队", "queue"],
  "stage.tokenise": ["分词", "tokenise"],
  "stage.wait": ["等待引擎", "engine wait"],
  "stage.infer": ["推理", "infer"],
  "stage.finish": ["收尾", "finish"],
  "stage.call": ["进程间", "process hop"],
  "stage.serialise": ["序列化", "serialise"],
  timelineLabel: [
    "折线图：P95 与 P50 随时间变化，上限 {ms} ms。最近 P95 {p95} ms。用左右方向键逐点查看。",
    "Line chart of P95 and P50 over time, limit {ms} ms. Latest P95 {p95} ms. Left and right arrows move point by point.",
  ],
  distributionLabel: ["柱状图：延迟分布，{within} 在 {ms} ms 以内。", "Bar chart of latencies; {within} within {ms} ms."],
  noPoints: ["还没有请求", "No requests yet"],
  // tables
  resources: ["资源占用", "Resources"],
  process: ["进程", "Process"],
  cpu: ["CPU", "CPU"],
  memory: ["内存", "Memory"],
  memoryHint: ["CPU：100 % 为一个核 · 内存：共享页按份额计（PSS）", "CPU: 100 % is one core · memory: shared pages by shares (PSS)"],
  "process.api": ["API", "API"],
  "process.main": ["主进程", "main"],
  "process.supervisor": ["调度（supervisor）", "supervisor"],
  "process.supervisor + worker": ["调度与工作进程", "supervisor + worker"],
  "process.worker": ["工作进程（worker）", "worker"],
  "process.fork server": ["fork 母进程", "fork server"],
  "process.helpers": ["辅助进程", "helpers"],
  "process.all": ["合计", "all together"],
  replicas: ["副本", "Replicas"],
  replica: ["副本", "Replica"],
  state: ["状态", "State"],
  queuedTokens: ["在途 tokens", "Tokens in flight"],
  "state.ready": ["就绪", "ready"],
  "state.loading": ["加载中", "loading"],
  "state.stopping": ["停止中", "stopping"],
  "state.down": ["不可用", "down"],
  alerts: ["告警", "Alerts"],
  firing: ["告警中", "firing"],
  resolved: ["已恢复", "resolved"],
  since: ["自 {time}", "since {time}"],
  noAlerts: ["没有告警", "No alerts"],
  noWatcher: ["监视器未运行：`slo watch` 会记录历史并发出告警。", "The watcher is not running: `slo watch` keeps history and sends alerts."],
  "alert.LatencyBudgetBurn": ["延迟预算消耗过快", "latency budget burning"],
  "alert.AvailabilityBudgetBurn": ["可用性预算消耗过快", "availability budget burning"],
  "alert.CorrectnessBudgetBurn": ["正确性预算消耗过快", "correctness budget burning"],
  "alert.P95AboveObjective": ["P95 超过目标", "P95 above the objective"],
  "alert.NoData": ["没有测量数据", "nothing measured"],
  "alert.ErrorBudgetSpent": ["错误预算用尽", "error budget spent"],
  "alert.HistoryNotWritable": ["历史无法写入", "history not writable"],
  "alert.RemediationFailed": ["自动处置失败", "remediation failed"],
  changes: ["变更记录", "Changes"],
  "change.start": ["服务启动", "server started"],
  "change.action": ["自动处置", "action taken"],
  "change.launch": ["模型上线", "model served"],
  "change.replicas": ["副本数变化", "number of replicas"],
  nothing: ["没有数据", "No data"],
  footer: ["数据来自本机服务，不访问任何外部地址。", "All data comes from this server; the page asks nobody else."],
  // similarity page
  similarityLead: ["输入或点选文本，服务器算出向量，页面比较余弦相似度。文本不会被保存。", "Type or pick texts; the server embeds them and the page compares. Texts are never stored."],
  examples: ["示例，点一下即可比较", "Examples: click one to compare"],
  "examples.related": ["相关", "related"],
  "examples.unrelated": ["不相关", "unrelated"],
  "examples.many": ["一对多", "one against many"],
  textA: ["文本 A", "Text A"],
  textB: ["文本 B（每行一条，最多 {most} 条）", "Text B (one per line, at most {most})"],
  placeholderA: ["例如：今天天气真不错", "For example: 今天天气真不错"],
  placeholderB: ["一行一条文本", "One text per line"],
  compare: ["比较", "Compare"],
  comparing: ["正在计算…", "Computing…"],
  shortcut: ["Ctrl + Enter 也可以", "or Ctrl + Enter"],
  clear: ["清空", "Clear"],
  score: ["相似度", "Similarity"],
  scoreHint: ["余弦相似度，1 为相同", "cosine; 1 is identical"],
  scoreStandIn: ["占位权重的分数只反映共同的字，不反映语义", "with stand-in weights the score reflects shared characters, not meaning"],
  "level.same": ["几乎相同", "almost the same"],
  "level.close": ["相近", "close"],
  "level.related": ["有关", "related"],
  "level.far": ["无关", "far apart"],
  ranking: ["与文本 A 的相似度", "Similarity to text A"],
  heatmap: ["两两相似度", "Every pair"],
  heatmapHint: ["颜色越浓越相近", "the stronger the colour, the closer"],
  callTook: ["本次调用 {ms} ms（{texts} 条文本，{tokens} tokens）", "this call took {ms} ms ({texts} texts, {tokens} tokens)"],
  callCached: ["部分或全部来自缓存", "answered from the cache"],
  withinLimit: ["在 {limit} ms 以内", "within {limit} ms"],
  beyondLimit: ["超过 {limit} ms", "over {limit} ms"],
  needTexts: ["请填写文本 A 和至少一条文本 B。", "Please fill in text A and at least one line of text B."],
  tooMany: ["最多 {most} 条，请删去 {extra} 条。", "At most {most} lines; please remove {extra}."],
  noModel: ["没有正在运行的向量模型。", "No embedding model is running."],
  retryIn: ["建议 {seconds} 秒后重试。", "The server suggests to retry in {seconds} s."],
};

let index = chosen();
const listeners = new Set();

function chosen() {
  const kept = localStorage.getItem(CHOICE);
  if (kept) return kept === "zh" ? 0 : 1;
  return navigator.language.toLowerCase().startsWith("zh") ? 0 : 1;
}

/** The word under `key` with `{names}` filled in. An unknown key is shown as itself: visible, and harmless. */
export function say(key, values = {}) {
  const text = WORDS[key]?.[index] ?? key.replace(/^.*\./, "");
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** A whole span of time in words: `5 分钟` / `5 min`, `24 小时` / `24 h`, `7 天` / `7 d`. */
export function span(seconds) {
  const units = [["天", "d", 86400], ["小时", "h", 3600], ["分钟", "min", 60], ["秒", "s", 1]];
  const [zh, en, length] = units.find((unit) => seconds % unit[2] === 0 && (seconds > 86400 || unit[2] < 86400));
  return `${seconds / length} ${index === 0 ? zh : en}`;
}

/** Call `listener` now and whenever the language changes. */
export function onLanguage(listener) {
  listeners.add(listener);
  listener();
}

/** The other language, from now on and on the next visit. */
export function switchLanguage() {
  index = 1 - index;
  localStorage.setItem(CHOICE, index === 0 ? "zh" : "en");
  for (const listener of listeners) listener();
}

/** Fill every element that names its word in `data-word`, `data-hint` (tooltip) or `data-ghost` (placeholder). */
export function translate(root = document) {
  document.documentElement.lang = index === 0 ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-word]")) element.textContent = say(element.dataset.word);
  for (const element of root.querySelectorAll("[data-hint]")) element.title = say(element.dataset.hint);
  for (const element of root.querySelectorAll("[data-ghost]")) element.placeholder = say(element.dataset.ghost);
}
