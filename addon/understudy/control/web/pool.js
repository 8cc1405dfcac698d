// The pool page: asks for pool.json while it is seen, and shows what has changed. Whatever comes from outside (aliases,
// evidence, names) is only ever set as text.
"use strict";

const EVERY = 2000; // milliseconds between two looks
const AFTER_TROUBLE = 5000;
const SHOWN_FREE = 8; // free candidates of a lineup that are shown at once
const SUSPEND = [["10m", "10 minutes"], ["1h", "1 hour"], ["8h", "8 hours"], ["1d", "1 day"]];
const TONES = {
  ok: "good",
  rate_limited: "warning", quota_exhausted: "warning",
  overloaded: "danger", credential_rejected: "danger",
  model_unsupported: "info", capability_unsupported: "info", context_exceeded: "info",
};
const STEP = 300; // seconds of a step of what was of late
const STEPS = 12;
const NONE = Number.NEGATIVE_INFINITY;
const today = (standing) => (standing.today ? standing.today.input + standing.today.output : NONE);
const lately = (standing, what) => (standing.hour ?? []).reduce((sum, step) => sum + step[what], 0);
/** By what the candidates of a route can be sorted: name, what is compared, and whether the largest comes first. */
const SORTS = {
  place: ["as they are asked", (standing) => standing.place, false],
  name: ["name", (standing) => `${standing.credential} ${standing.model}`, false],
  state: ["state", (standing) => Object.keys(STATES).indexOf(standing.state), true],
  today: ["tokens today", today, true],
  calls: ["answers in the last hour", (standing) => lately(standing, 1), true],
  failures: ["failures in the last hour", (standing) => lately(standing, 2), true],
  first: ["time to the first event", (standing) => standing.pace?.median ?? NONE, true],
  used: ["share used of a limit", (standing) => Math.max(NONE, ...(standing.limits ?? []).map((each) => each.used ?? NONE)), true],
};
const STATES = { free: "good", suspended: "danger", "half-open": "warning", probing: "info", unusable: "neutral" };

const find = (selector) => document.querySelector(selector);
const token = find("meta[name=xsrf-token]").content;
const unfolded = new Set(); // the lineups that are shown whole
const kept = new Map(); // what was drawn last, by name: {json, element}

let sorted = { by: "place", turned: false };
let pool = null;
let ahead = 0; // seconds that the proxy's clock is ahead of ours
let timer = 0;
let asking = false;

// -- making elements ------------------------------------------------------------------------------------------------

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== "" && child !== null && child !== undefined));
  return element;
}

/** An element of a drawing. */
function shape(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The element that was drawn for this name before, if it would look the same; so focus and open folds survive. */
function keep(name, data, draw) {
  const json = JSON.stringify(data);
  const before = kept.get(name);
  if (before && before.json === json) {
    before.used = true;
    return before.element;
  }
  const element = draw();
  if (before && before.element.open) element.open = true;
  kept.set(name, { json, element, used: true });
  return element;
}

/** Make these the children of an element, and touch nothing that is in its place already. */
function arrange(parent, children) {
  const wanted = new Set(children);
  children.forEach((child, place) => {
    const there = parent.children[place];
    if (there === child) return;
    if (there && !wanted.has(there)) there.replaceWith(child); // so that those behind it stay where they are
    else parent.insertBefore(child, there ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
}

// -- times ----------------------------------------------------------------------------------------------------------

const now = () => Date.now() / 1000 + ahead;

function span(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return rough(seconds);
}

function rough(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "m"]];
  for (const [size, unit] of units) {
    if (left < size) continue;
    const smaller = { d: [3600, "h"], h: [60, "m"], m: [1, "s"] }[unit];
    const rest = Math.floor((left % size) / smaller[0]);
    return `${Math.floor(left / size)}${unit}${rest ? ` ${rest}${smaller[1]}` : ""}`;
  }
  return `${left}s`;
}

function clock(at) {
  const moment = new Date(at * 1000);
  const today = moment.toDateString() === new Date(now() * 1000).toDateString();
  const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  return today ? time : `${moment.toLocaleDateString([], { month: "short", day: "numeric" })}, ${time}`;
}

/** A time that goes on by itself; `kind`: "until" counts down, "ago" up. */
function ticking(at, kind) {
  const element = make("time", { title: clock(at) });
  element.dataset.at = at;
  element.dataset.kind = kind;
  return tick(element);
}

function tick(element) {
  const at = Number(element.dataset.at);
  const text = element.dataset.kind === "until" ? rough(at - now()) : `${rough(now() - at)} ago`;
  if (element.textContent !== text) element.textContent = text;
  return element;
}

let wasDue = 0;
function tickAll() {
  let due = 0;
  for (const element of document.querySelectorAll("time[data-at]")) {
    tick(element);
    due += element.dataset.kind === "until" && Number(element.dataset.at) <= now();
  }
  if (due > wasDue) look();
  wasDue = due;
}

/** A number of tokens in few characters. */
function brief(count) {
  const units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of units) {
    if (count >= size) return `${(count / size).toFixed(count < 10 * size ? 1 : 0)}${unit}`;
  }
  return `${count}`;
}

// -- routes ---------------------------------------------------------------------------------------------------------

function pill(text, tone, ...more) {
  return make("span", { className: `pill ${tone}` }, text, ...more);
}

function drawEntry(entry) {
  const whose = entry.scope === "candidate" ? "" : `${entry.scope} ${entry.name}`;
  const words = [entry.scope, entry.name, ...(entry.model ? [entry.model] : [])];
  const target = words.join(" ");
  const when = entry.state === "suspended"
    ? [ticking(entry.until, "until"), " left"]
    : ["due ", ticking(entry.until, "ago")];
  const facts = [`since ${clock(entry.since)}`];
  if (entry.doubt) facts.push("in doubt: every candidate refused one request alike, so others are asked at once");
  if (entry.hint) facts.push(`the reply said so: ${entry.hint}`);
  else if (entry.step) facts.push(`step ${entry.step} of ${entry.steps}`);
  const reason = entry.rule === "by hand"
    ? [make("b", {}, "by hand")]
    : [make("b", {}, entry.label), " by ", make("code", {}, entry.rule)];
  return make("div", { className: "entry" },
    make("p", {}, whose ? make("span", { className: "whose" }, whose) : "", ...reason,
      make("span", { className: "when" }, ...when), make("small", {}, facts.join(" · "))),
    make("div", { className: "actions" },
      entry.state === "suspended"
        ? make("button", { type: "button", title: `Let the next request ask ${target}`, "aria-label": `Probe ${target}`,
          onclick: () => change("probe", words) }, "Probe") : "",
      make("button", { type: "button", title: `Put ${target} back`, "aria-label": `Resume ${target}`,
        onclick: () => change("resume", words) }, "Resume")),
    entry.evidence ? make("p", { className: "evidence" }, entry.evidence) : "");
}

function drawCounts(tally) {
  const failed = Object.entries(tally.failed);
  const number = failed.reduce((sum, [, count]) => sum + count, 0);
  const labels = failed.map(([label, count]) => `${count} ${label}`).join(", ");
  return make("div", { className: "tally" },
    make("span", { className: tally.answered ? "good" : "none", title: "answered" }, `✓ ${tally.answered}`),
    make("span", { className: number ? "bad" : "none", title: labels || "failed" }, `✗ ${number}`),
    tally.last_answered === null
      ? make("small", {}, "no answer yet")
      : make("small", {}, "answered ", ticking(tally.last_answered, "ago")),
    tally.opinions ? make("small", {}, `${tally.opinions} second opinions`) : "",
    tally.moves ? make("small", { title: "Conversations that came from another account, without their sealed parts" },
      `${tally.moves} moved here`) : "",
    labels ? make("small", { className: "labels" }, labels) : "");
}

const step = () => Math.floor(now() / STEP);

/** Answers and failures of the last hour, in steps of five minutes. */
function drawSpark(standing) {
  const first = step() - STEPS + 1;
  const steps = standing.hour.filter(([number]) => number >= first);
  const answered = steps.reduce((sum, each) => sum + each[1], 0);
  const failed = steps.reduce((sum, each) => sum + each[2], 0);
  if (answered + failed === 0) return "";
  const most = Math.max(...steps.map((each) => each[1] + each[2]));
  const bars = steps.flatMap(([number, good, bad]) => {
    const [x, up, above] = [(number - first) * 8, (good / most) * 17, (bad / most) * 17];
    return [shape("rect", { class: "good", x, y: 18 - up, width: 6, height: up }),
      shape("rect", { class: "bad", x, y: 18 - up - above, width: 6, height: above })];
  });
  const said = `last hour: ${answered} answered, ${failed} failed`;
  return shape("svg", { class: "spark", viewBox: `0 0 ${STEPS * 8} 18`, role: "img", "aria-label": said },
    shape("title", {}, said), ...bars);
}

/** A limit that the upstream states: how much of it is used, and when it begins anew. */
function drawWindow(limit) {
  const isShare = limit.used !== null;
  const used = isShare ? Math.round(Math.min(1, Math.max(0, limit.used)) * 100) : 0;
  const whose = limit.whose === "credential" ? "all models" : limit.family || "this model";
  const left = limit.remaining === null ? "" : limit.limit === null ? `${brief(limit.remaining)} left`
    : `${brief(limit.remaining)} of ${brief(limit.limit)} left`;
  const numbers = [isShare ? `${used} %` : "", left].filter(Boolean).join(", ");
  const said = `${limit.name}, ${limit.of} of ${whose}: ${isShare ? `${used} % used` : left || "nothing stated"}`;
  const fill = make("div", { className: "fill" });
  fill.style.width = `${used}%`;
  return make("div", { className: `window${limit.low ? " low" : used >= 50 ? " half" : ""}`, title: said },
    make("b", {}, limit.name === limit.of ? limit.name : `${limit.name} ${limit.of}`),
    isShare ? make("div", { className: "track", role: "meter", "aria-valuenow": used, "aria-valuemin": 0,
      "aria-valuemax": 100, "aria-label": said }, fill) : "",
    make("span", {}, numbers),
    limit.reset === null ? "" : make("span", {}, "resets in ", ticking(limit.reset, "until")),
    limit.forecast ? make("span", {}, limit.forecast) : "");
}

/** What a candidate has given today, how fast it was, and what is left of its limits. */
function drawTokens(standing) {
  const spent = standing.today;
  const parts = [drawSpark(standing)];
  if (standing.pace) {
    const fast = `first event ${span(standing.pace.median)}, 95 % within ${span(standing.pace.p95)}`;
    parts.push(make("span", { title: `of the last ${standing.pace.calls} calls` }, fast));
  }
  if (standing.speed) parts.push(make("span", {}, `${Math.round(standing.speed)} tokens/s`));
  if (spent && (spent.input || spent.output)) {
    const share = spent.cached ? ` (${Math.round((spent.cached / spent.input) * 100)} % cached)` : "";
    const cost = spent.cost === null ? "" : ` · costs ${spent.cost.toFixed(spent.cost < 1 ? 4 : 2)}`;
    parts.push(make("span", { className: "today", title: `${spent.input} in, ${spent.cached} of them cached, `
      + `${spent.output} out, ${spent.reasoning} of them reasoning` },
    `today ${brief(spent.input)} in${share}, ${brief(spent.output)} out${cost}`));
  }
  if (spent?.lost_input || spent?.lost_output) {
    parts.push(make("span", { title: "replays and hedges" },
      `${spent.lost} paid for and not used: ${brief(spent.lost_input)} in, ${brief(spent.lost_output)} out`));
  }
  if (spent?.unstated) parts.push(make("span", {}, `${spent.unstated} counted no tokens`));
  if (standing.served) {
    const times = spent?.another ? ` (${spent.another} today)` : "";
    parts.push(pill(`replies name ${standing.served}${times}`, "warning"));
  }
  if (standing.concurrency || standing.queued) {
    const most = standing.concurrency ? ` of ${standing.concurrency}` : "";
    parts.push(make("span", {}, `${standing.under_way}${most} at once${standing.queued ? `, ${standing.queued} wait` : ""}`));
  }
  parts.push(...(standing.limits ?? []).map(drawWindow));
  return make("div", { className: "tokens" }, ...parts.filter(Boolean));
}

function drawSuspend(standing) {
  const words = standing.model ? ["candidate", standing.credential, standing.model] : ["credential", standing.credential];
  const select = make("select", { "aria-label": `Suspend ${words.join(" ")}`, title: `Suspend ${words.join(" ")} for`,
    onchange: () => {
      const time = select.value;
      select.selectedIndex = 0;
      if (time) change("suspend", [...words, time]);
    } },
    make("option", { value: "" }, "Suspend"),
    ...SUSPEND.map(([value, text]) => make("option", { value }, `for ${text}`)));
  return select;
}

function drawStanding(standing) {
  const suspended = standing.because.some((entry) => entry.state === "suspended");
  return make("div", { className: `standing ${standing.state}` },
    make("span", { className: "number" }, `${standing.place}`),
    make("div", { className: "who" },
      make("b", {}, standing.credential),
      standing.priority > 1 || standing.weight > 1
        ? make("small", {}, [standing.priority > 1 ? `priority ${standing.priority}` : "",
          standing.weight > 1 ? `weight ${standing.weight}` : ""].filter(Boolean).join(", ")) : "",
      standing.model ? make("code", {}, standing.model)
        : make("span", { className: "any" }, "whatever model is asked for"),
      make("small", { title: standing.url }, standing.upstream)),
    make("div", { className: "state" }, pill(standing.state, STATES[standing.state])),
    drawCounts(standing.tally),
    make("div", { className: "actions" }, suspended ? "" : drawSuspend(standing)),
    drawTokens(standing),
    standing.note ? make("p", { className: "note" }, standing.note) : "",
    ...standing.because.map(drawEntry));
}

function inOrder(candidates) {
  const [, value, down] = SORTS[sorted.by];
  const sign = down === sorted.turned ? 1 : -1;
  return [...candidates].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if ((a === NONE) !== (b === NONE)) return a === NONE ? 1 : -1; // what is not known comes last either way
    return (a < b ? -sign : a > b ? sign : 0) || one.place - other.place;
  });
}

function drawLineup(name, lineup, titled) {
  const shown = [];
  let free = 0;
  for (const standing of inOrder(lineup.candidates)) {
    if (standing.state === "free") free += 1;
    if (standing.state !== "free" || free <= SHOWN_FREE || unfolded.has(name)) {
      const own = `${name} ${standing.credential} ${standing.model}`;
      // What was of late grows old by itself.
      const data = standing.hour?.length ? [standing, step()] : standing;
      shown.push(keep(own, data, () => drawStanding(standing)));
    }
  }
  const hidden = lineup.candidates.length - shown.length;
  const element = keep(`${name} (all)`, titled, () => make("div", { className: "lineup" }));
  const rest = [];
  if (titled) {
    const title = lineup.alias ? [make("b", {}, lineup.alias)] : [make("span", {}, "no call yet")];
    rest.push(keep(`${name} (title)`, [lineup.alias, lineup.dialect], () =>
      make("h3", {}, ...title, make("small", {}, lineup.dialect))));
  }
  rest.push(...shown);
  if (hidden) {
    rest.push(keep(`${name} (rest)`, hidden, () => make("button", { type: "button", className: "rest",
      onclick: () => { unfolded.add(name); draw(); } }, `Show ${hidden} more that are free`)));
  }
  if (lineup.more) {
    rest.push(keep(`${name} (more)`, lineup.more, () =>
      make("p", { className: "rest" }, `and ${lineup.more} more candidates`)));
  }
  arrange(element, rest);
  return element;
}

function drawRoute(route) {
  const name = `route ${route.pattern}`;
  const titled = route.lineups.length > 1 || route.lineups.some((lineup) => lineup.alias !== route.pattern);
  const element = keep(name, route.pattern, () => make("article", { className: "card" }));
  const title = keep(`${name} (title)`, [route.pattern, route.strategy, titled], () =>
    make("h2", {}, route.pattern, make("small", {}, titled ? route.strategy
      : `${route.strategy} · ${route.lineups[0]?.dialect ?? ""}`)));
  const lineups = route.lineups.map((lineup) =>
    drawLineup(`${name} ${lineup.dialect} ${lineup.alias}`, lineup, titled));
  const more = route.more ? [keep(`${name} (more)`, route.more, () =>
    make("p", { className: "rest" }, `and ${route.more} more aliases`))] : [];
  arrange(element, [title, ...lineups, ...more]);
  return element;
}

// -- exchanges ------------------------------------------------------------------------------------------------------

const tone = (tried) => TONES[tried.label] ?? "neutral";
const named = (tried) => `${tried.credential} ${tried.model}${tried.drill ? " (drill)" : ""}`;

function drawSegments(told) {
  const segments = [];
  let end = 0;
  for (const tried of told.tried) {
    const gap = tried.after - end;
    if (gap > 0.1) segments.push(drawSegment(gap, "wait", "waited", "", `waited ${span(gap)}`));
    segments.push(drawSegment(tried.seconds, tone(tried), tried.credential, tried.label,
      `${named(tried)}: ${tried.label} by ${tried.rule}, HTTP ${tried.status || "–"}, ${span(tried.seconds)}`));
    end = tried.after + tried.seconds;
  }
  if (told.answer === 0) segments.push(drawSegment(0, "own", "understudy", "answered itself", "an answer of our own"));
  else if (told.under_way) segments.push(drawSegment(0, "wait", "going on", "", "the next attempt is under way"));
  return make("div", { className: "segments" }, ...segments);
}

function drawSegment(seconds, tone, who, label, title) {
  const element = make("div", { className: `segment ${tone}`, title }, make("b", {}, who),
    label ? make("span", {}, label) : "", seconds ? make("small", {}, span(seconds)) : "");
  element.style.flexGrow = Math.max(0.05, Math.sqrt(seconds));
  return element;
}

function answeredBy(told) {
  if (told.answer === null) {
    return told.under_way ? pill("under way", "info") : pill("the tool went away", "neutral");
  }
  if (told.answer === 0) return pill("answered by understudy", "neutral");
  const tried = told.tried[told.answer - 1];
  if (!tried) return pill(`answered by attempt ${told.answer}`, "neutral");
  if (told.ended) return pill(`${tried.credential}, then ${told.ended}`, "danger");
  return tried.label === "ok"
    ? pill(`answered by ${tried.credential}`, "good")
    : pill(`${tried.label} of ${tried.credential} released`, tone(tried));
}

function drawTried(tried) {
  return make("tr", {},
    make("td", {}, `${tried.number}`),
    make("td", { className: "brief" },
      make("b", {}, tried.credential), " ", make("code", {}, tried.model), tried.again ? " again" : tried.opinion ? " second opinion" : ""),
    make("td", { className: "brief" }, pill(tried.label, tone(tried))),
    make("td", { className: "brief" }, make("code", {}, tried.rule)),
    make("td", { className: "brief" }, tried.status ? `HTTP ${tried.status}` : "no reply"),
    make("td", { className: "brief seconds" }, span(tried.seconds)),
    make("td", { className: "evidence" }, [tried.evidence, withoutSealed(tried)].filter(Boolean).join(" · ")));
}

/** What an attempt went without, because another account has sealed it. */
function withoutSealed(tried) {
  if (!tried.left_out) return "";
  const moved = tried.moved_from ? `, moved from ${tried.moved_from}` : "";
  return `without ${tried.left_out} sealed part${tried.left_out === 1 ? "" : "s"}${moved}`;
}

function drawSkipped(skipped) {
  return make("tr", { className: "skipped" },
    make("td", {}, "–"),
    make("td", { className: "brief" }, make("b", {}, skipped.credential), " ", make("code", {}, skipped.model)),
    make("td", { className: "brief" }, pill("not asked", "neutral")),
    make("td", { className: "evidence", colSpan: 4 }, skipped.why));
}

function drawExchange(told) {
  const traits = [told.dialect, told.streamed ? "streamed" : "", told.generating ? "" : "auxiliary"];
  return make("details", { className: told.tried.length > 1 ? "exchange many" : "exchange" },
    make("summary", {},
      make("time", {}, clock(told.time)),
      make("span", { className: "asked" }, make("b", {}, told.alias),
        told.route === told.alias ? "" : make("small", {}, `route ${told.route}`)),
      answeredBy(told),
      make("small", { className: "total" }, told.released === null ? "" : span(told.released)),
      drawSegments(told)),
    make("div", { className: "story" },
      make("table", {}, make("tbody", {}, ...told.tried.map(drawTried), ...told.skipped.map(drawSkipped))),
      make("p", {},
        told.more ? `and ${told.more} more attempts · ` : "",
        `${traits.filter(Boolean).join(", ")} · `,
        make("a", { href: `/#/flows/${encodeURIComponent(told.flow)}/comment` }, "open the flow"))));
}

const isEventful = (told) =>
  told.tried.length + told.more !== 1 || told.ended || told.under_way || told.tried[0].label !== "ok";

// -- the page -------------------------------------------------------------------------------------------------------

function drawHead() {
  const states = new Map(); // the candidate's state, each counted once
  const tokens = new Map();
  for (const route of pool.routes) {
    for (const lineup of route.lineups) {
      for (const standing of lineup.candidates) {
        const name = `${standing.credential} ${standing.model}`;
        states.set(name, standing.state);
        if (standing.today) tokens.set(name, today(standing));
      }
    }
  }
  const given = [...tokens.values()].reduce((sum, each) => sum + each, 0);
  const counts = new Map();
  for (const state of states.values()) counts.set(state, (counts.get(state) ?? 0) + 1);
  const shown = Object.keys(STATES).filter((state) => counts.get(state));
  const place = pool.pool || "There is no pool file: write one, or set pool_file.";
  const further = pool.intercept.length ? `also looks into ${pool.intercept.join(", ")}` : "";
  find("#place").textContent = [place, further, sharing(pool.shared)].filter(Boolean).join(" · ");
  const items = shown.map((state) => keep(`count ${state}`, counts.get(state), () =>
    make("li", {}, make("b", {}, `${counts.get(state)}`), pill(state, STATES[state]))));
  if (given) {
    items.push(keep("count tokens", given, () =>
      make("li", { title: `${given} tokens, in and out` }, make("b", {}, brief(given)), pill("tokens today", "neutral"))));
  }
  arrange(find("#counts"), items);
  document.title = counts.get("suspended") ? `(${counts.get("suspended")}) pool · understudy` : "pool · understudy";
}

/** How this proxy stands with those that it shares its suspensions with. */
function sharing(state) {
  if (!state) return "";
  const where = `${state.server} as ${state.prefix}`;
  if (state.connected) return `shared through ${where}`;
  return `alone since ${new Date(state.since * 1000).toLocaleTimeString()}: ${where}: ${state.reason}`;
}

const nameOf = (entry) => `${entry.scope} ${entry.name} ${entry.model}${entry.drill ? " (drill)" : ""}`;

/** What fails on purpose now, what came of it so far, and the button that ends it. */
function drawDrill() {
  const { drill } = pool;
  find("#drill").hidden = !drill;
  if (!drill) return arrange(find("#drill"), []);
  const { calls, rescued, failed } = drill.summary;
  const lost = Object.values(failed).reduce((sum, count) => sum + count, 0);
  arrange(find("#drill"), [keep("drill", drill, () => make("div", {},
    make("p", {}, make("b", {}, "Drill"), ` ${drill.name}: ${drill.meaning}. `,
      make("span", { className: "when" }, ticking(drill.until, "until"), " left"),
      make("small", {}, ` begun by ${drill.who} · calls ${calls}, rescued ${rescued}, failed ${lost}`)),
    make("button", { type: "button", onclick: () => change("drill", ["stop"]) }, "Stop the drill")))]);
}

/** The calls that are held until a limit begins anew: how many, since when, and whose limit it is. */
function drawHeld() {
  const lines = pool.held.map((held) => keep(`held ${held.route} ${held.dialect} ${held.alias} ${held.credential} ${held.model}`,
    { ...held, seconds: 0 }, () => make("p", {},
      make("b", {}, `${held.calls} ${held.calls === 1 ? "call" : "calls"} held`), " for ", make("code", {}, held.alias),
      ` until a limit of ${held.credential} `, make("code", {}, held.model), " begins anew: ",
      make("span", { className: "when" }, ticking(held.until, "until"), " left"),
      make("small", {}, ` until ${clock(held.until)} · since ${clock(held.since)}`))));
  if (pool.more_held) {
    lines.push(keep("held (more)", pool.more_held, () => make("p", {}, `and ${pool.more_held} more calls`)));
  }
  find("#held").hidden = lines.length === 0;
  arrange(find("#held"), lines);
}

function drawOthers() {
  const covered = new Set();
  for (const route of pool.routes) {
    for (const lineup of route.lineups) {
      for (const standing of lineup.candidates) {
        for (const entry of standing.because) covered.add(nameOf(entry));
      }
    }
  }
  const others = pool.entries.filter((entry) => !covered.has(nameOf(entry)));
  const rows = others.map((entry) => keep(`other ${nameOf(entry)}`, entry, () =>
    make("div", { className: "other" },
      make("div", { className: "who" }, make("b", {}, `${entry.scope} ${entry.name}`), make("code", {}, entry.model)),
      make("div", { className: "state" }, pill(entry.state, STATES[entry.state]),
        entry.drill ? pill("drill", "info") : ""),
      drawEntry(entry))));
  const shown = new Set(pool.routes.flatMap((route) => route.lineups)
    .flatMap((lineup) => lineup.candidates).map((standing) => standing.credential));
  for (const lost of pool.out_of_use.filter((each) => !shown.has(each.credential))) {
    rows.push(keep(`out of use ${lost.credential}`, lost, () =>
      make("div", { className: "other" },
        make("div", { className: "who" }, make("b", {}, `credential ${lost.credential}`)),
        make("div", { className: "state" }, pill("unusable", STATES.unusable)),
        make("p", { className: "note" }, `out of use, because ${lost.reason}`))));
  }
  if (pool.more) {
    rows.push(keep("others (more)", pool.more, () => make("p", { className: "rest" }, `and ${pool.more} more`)));
  }
  find("#others").hidden = rows.length === 0;
  arrange(find("#others .card"), rows);
}

const CAUSES = {
  request: ["the request's fault", "neutral"],
  candidate: ["the candidate's own fault", "danger"],
  undecided: ["undecided", "warning"],
};

function drawLesson(lesson) {
  const [text, tone] = CAUSES[lesson.cause];
  const word = lesson.code && !/^[0-9]+$/.test(lesson.code) ? lesson.code : lesson.type || lesson.code;
  return make("div", { className: "other" },
    make("div", { className: "who" }, make("b", {}, lesson.upstream), make("code", {}, `HTTP ${lesson.status} ${word}`)),
    make("div", { className: "state" }, pill(text, tone)),
    make("div", { className: "entry" },
      make("p", {}, `${lesson.speaker} said so, ${lesson.witness} was asked as well`,
        make("span", { className: "when" }, ticking(lesson.until, "until"), " left"),
        make("small", {}, `seen ${lesson.seen} · ${lesson.id}`)),
      make("div", { className: "actions" },
        make("button", { type: "button", title: "Compare again the next time", "aria-label": `Forget ${lesson.id}`,
          onclick: () => change("learned", ["forget", lesson.id]) }, "Forget")),
      lesson.words ? make("p", { className: "evidence" }, lesson.words) : ""));
}

function drawLearned() {
  const { opinions, lessons, more } = pool.learned;
  const rows = lessons.map((lesson) => keep(`learnt ${lesson.id}`, lesson, () => drawLesson(lesson)));
  if (more) rows.push(keep("learnt (more)", more, () => make("p", { className: "rest" }, `and ${more} more`)));
  find("#learned").hidden = rows.length === 0 && opinions.asked === 0;
  find("#learned .note").textContent = `Second opinions since the proxy started: ${opinions.asked} asked; the other `
    + `candidate answered ${opinions.answered}, refused too ${opinions.refused}, could not tell ${opinions.undecided}.`;
  arrange(find("#learned .card"), rows);
}

function drawExchanges() {
  const wanted = find("#eventful").checked ? pool.exchanges.filter(isEventful) : pool.exchanges;
  const rows = wanted.map((told) => keep(`exchange ${told.flow} ${told.time}`, told, () => drawExchange(told)));
  if (!rows.length) {
    const text = pool.exchanges.length
      ? "Every call was answered by the candidate that was asked first."
      : "No call has come in yet. Point a tool at the proxy, and its calls show up here.";
    rows.push(keep("exchanges (none)", text, () => make("p", { className: "rest" }, text)));
  }
  arrange(find("#exchanges .card"), rows);
}

function draw() {
  for (const drawn of kept.values()) drawn.used = false;
  drawHead();
  drawDrill();
  drawHeld();
  const routes = pool.routes.map(drawRoute);
  if (pool.more_routes) {
    routes.push(keep("routes (more)", pool.more_routes, () =>
      make("p", { className: "rest" }, `and ${pool.more_routes} more routes`)));
  }
  arrange(find("#routes"), routes);
  drawOthers();
  drawLearned();
  drawExchanges();
  for (const [name, drawn] of kept) if (!drawn.used) kept.delete(name);
}

function say(lines, tone) {
  find("#said").replaceChildren(make("p", { className: tone }, ...lines.flatMap((line) => [line, make("br")])));
  clearTimeout(say.timer);
  say.timer = setTimeout(() => find("#said").replaceChildren(), 8000);
}

function trouble(text, link) {
  const place = find("#trouble");
  place.hidden = !text;
  place.replaceChildren(text, link ? make("a", { href: link[0] }, link[1]) : "");
  find("#live").className = text ? "lost" : "on";
  find("#live span").textContent = text ? "not connected" : "live";
}

// -- talking to the proxy -------------------------------------------------------------------------------------------

async function look() {
  if (asking || document.hidden) return;
  asking = true;
  clearTimeout(timer);
  let again = EVERY;
  try {
    const since = pool ? `?since=${encodeURIComponent(pool.version)}` : "";
    const response = await fetch(`/understudy/pool.json${since}`, { cache: "no-store" });
    if (response.status === 403) {
      trouble("mitmweb was started anew and asks for its token again. ", ["/understudy", "Log in"]);
      again = AFTER_TROUBLE;
    } else if (response.ok) {
      if (response.status !== 204) {
        pool = await response.json();
        ahead = pool.now - Date.now() / 1000;
        draw();
      }
      trouble("");
    } else {
      trouble(`The proxy answers ${response.status}: look at its log.`);
      again = AFTER_TROUBLE;
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    trouble("The proxy does not answer; trying again.");
    again = AFTER_TROUBLE;
  } finally {
    asking = false;
    if (!document.hidden) timer = setTimeout(look, again);
  }
}

async function change(command, words) {
  try {
    const response = await fetch("/understudy/control", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-XSRFToken": token },
      body: JSON.stringify({ command, words }),
    });
    const type = response.headers.get("Content-Type") ?? "";
    const said = type.startsWith("application/json") ? await response.json() : {};
    if (response.ok) say(said.lines, "good");
    else say((said.error ?? `That was refused (${response.status}): load the page again.`).split("\n"), "bad");
  } catch (error) {
    say(["The proxy does not answer."], "bad");
  }
  await look();
}

let ticker = 0;
function wake() {
  clearInterval(ticker);
  clearTimeout(timer);
  if (document.hidden) return;
  ticker = setInterval(tickAll, 1000);
  look();
}

function tellOrder() {
  const [name, , down] = SORTS[sorted.by];
  const button = find("#direction");
  const isDown = down !== sorted.turned;
  button.textContent = isDown ? "↓" : "↑";
  button.title = isDown ? "The largest first" : "The smallest first";
  button.setAttribute("aria-label", `${button.title}, by ${name}; press to turn it round`);
  find("#sort").value = sorted.by;
}

/** Sort from now on; a browser that may not remember it forgets it with the page. */
function sortBy(by, turned) {
  sorted = { by, turned };
  try {
    localStorage.setItem("understudy pool sort", JSON.stringify(sorted));
  } catch { /* private browsing */ }
  tellOrder();
  if (pool) draw();
}

find("#sort").append(...Object.entries(SORTS).map(([value, [name]]) => make("option", { value }, name)));
try {
  const before = JSON.parse(localStorage.getItem("understudy pool sort"));
  if (before && Object.hasOwn(SORTS, before.by)) sorted = { by: before.by, turned: before.turned === true };
} catch { /* nothing was remembered, or something else */ }
tellOrder();
find("#sort").addEventListener("change", (event) => sortBy(event.target.value, false));
find("#direction").addEventListener("click", () => sortBy(sorted.by, !sorted.turned));
document.addEventListener("visibilitychange", wake);
find("#reload").addEventListener("click", () => change("reload", []));
find("#eventful").addEventListener("change", () => pool && draw());
trouble("");
wake();
