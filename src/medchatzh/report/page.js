"use strict";
// Two things that print cannot do: tables sort, and the questions can be looked through. Text goes in as text, never as markup.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- Tables. Rows move within their own tbody alone: rows of two groups do not compare. Copied rows compare with nothing, and stay.

for (const table of document.querySelectorAll("table.sortable")) {
  const original = new Map([...table.tBodies].filter((body) => !body.matches(".unranked")).map((body) => [body, [...body.rows]]));
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", "sort");
    button.type = "button";
    const [name, ...translation] = head.childNodes;
    const arrow = element("span", "arrow");
    arrow.ariaHidden = "true";
    button.append(name, arrow, ...translation);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = [...table.tBodies].some((body) => [...body.rows].some((row) => row.cells[column]?.dataset.value !== undefined));
      const [first, second] = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
      const order = { [first]: second, [second]: "" }[head.ariaSort] ?? first;
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order) head.ariaSort = order;
      const sign = order === "descending" ? -1 : 1;
      for (const [body, rows] of original) {
        body.append(...(order ? [...rows].sort((one, other) => compare(one.cells[column], other.cells[column], numeric, sign)) : rows));
      }
    });
  });
}

// What is no number stands last either way.
function compare(one, other, numeric, sign) {
  if (!numeric) return sign * one.textContent.localeCompare(other.textContent, "zh-Hans");
  const [a, b] = [one, other].map((cell) => cell?.dataset.value);
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  return sign * (a - b);
}

// ---- Questions.

for (const figure of document.querySelectorAll(".browser")) {
  browse(figure, JSON.parse(figure.parentElement.querySelector(".browser-data").textContent));
}

function browse(figure, data) {
  const controls = figure.querySelector("form").elements;
  const list = figure.querySelector(".list");
  const detail = figure.querySelector("article");
  const told = figure.querySelector("output");
  const names = data.systems.map(([label]) => label);
  const items = data.items.map((item) => ({
    ...item,
    words: [item.id, item.question, ...item.references, ...item.answers].join("\n").toLowerCase(),
  }));
  let shown = [];
  let at = 0;

  function options(control, pairs, chosen) {
    control.replaceChildren(...pairs.map(([value, label]) => new Option(label, value)));
    control.value = chosen;
  }
  const sizes = new Map();
  for (const item of items) sizes.set(item.category, (sizes.get(item.category) ?? 0) + 1);
  const categories = [...sizes].sort(([a, n], [b, m]) => m - n || a.localeCompare(b, "zh-Hans"));
  options(controls.category, [["*", `全部 / all (${items.length})`], ...categories.map(([name, n]) => [name, `${name || "—"} (${n})`])], "*");
  options(controls.column, data.columns.map((name, place) => [place, name]), 0);
  options(controls.first, names.map((name, place) => [place, name]), 0);
  options(controls.second, names.map((name, place) => [place, name]), Math.min(1, names.length - 1));

  const score = (item, system) => item.scores[system]?.[controls.column.value] ?? null;
  function difference(item) {
    const [first, second] = [score(item, controls.first.value), score(item, controls.second.value)];
    return first === null || second === null ? null : first - second;
  }
  const orders = {
    difference: (item) => negative(difference(item), Math.abs),
    ahead: (item) => negative(difference(item), (value) => value),
    behind: difference,
    lowest: (item) => score(item, controls.first.value),
    highest: (item) => negative(score(item, controls.first.value), (value) => value),
  };

  // What has no score stands last.
  function select() {
    const kept = shown[at];
    const wanted = controls.find.value.trim().toLowerCase();
    const category = controls.category.value;
    shown = items.filter((item) => (category === "*" || item.category === category) && item.words.includes(wanted));
    const key = orders[controls.order.value];
    if (key) {
      const keys = new Map(shown.map((item) => [item, key(item)]));
      shown.sort((one, other) => {
        const [a, b] = [keys.get(one), keys.get(other)];
        return a === null || b === null ? (a === null) - (b === null) : a - b;
      });
    }
    list.replaceChildren(...shown.map(option));
    return kept;
  }

  function option(item, place) {
    const made = element("div", "option");
    made.id = `item-${place}`;
    made.setAttribute("role", "option");
    const numbers = [score(item, controls.first.value), score(item, controls.second.value)].map((value) => decimal(value));
    made.append(
      element("span", "asked", item.question.slice(0, 60)),
      element("span", "numbers", `${numbers.join(" − ")} = ${decimal(difference(item), true)}`),
    );
    made.addEventListener("click", () => show(place));
    return made;
  }

  function show(place) {
    list.children[at]?.removeAttribute("aria-selected");
    at = Math.max(0, Math.min(shown.length - 1, place));
    const item = shown[at];
    told.textContent = item ? `${at + 1} / ${shown.length}` : "没有符合的题目 / no such question";
    figure.querySelector("[name=previous]").disabled = !item || at === 0;
    figure.querySelector("[name=next]").disabled = !item || at === shown.length - 1;
    detail.replaceChildren(...(item ? describe(item) : []));
    if (!item) {
      list.removeAttribute("aria-activedescendant");
      return;
    }
    const chosen = list.children[at];
    chosen.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", chosen.id);
    // Not scrollIntoView, which would move the page too.
    if (chosen.offsetTop < list.scrollTop) list.scrollTop = chosen.offsetTop;
    const below = chosen.offsetTop + chosen.offsetHeight - list.clientHeight;
    if (below > list.scrollTop) list.scrollTop = below;
  }

  function describe(item) {
    const head = element("h3", "", `${item.category || "—"} `);
    head.append(element("code", "", item.id));
    const answers = element("dl");
    item.answers.forEach((answer, system) => {
      const term = element("dt", data.systems[system][1], names[system]);
      const length = answer === null ? "" : `${item.lengths[system]} 字 `;
      const value = score(item, system);
      term.append(element("span", "figure", length + (value === null ? "" : `${data.columns[controls.column.value]} ${decimal(value)}`)));
      const mark = { [controls.second.value]: "乙 B", [controls.first.value]: "甲 A" }[system];
      if (mark) term.append(element("span", "side", mark));
      answers.append(term, element("dd", "", answer === null ? "（没有回答 / no answer）" : answer || "（空 / empty）"));
    });
    return [
      head,
      labelled("question", "问", item.question),
      ...item.references.map((text) => labelled("reference", "参考", text)),
      ...(item.sampled.length ? [folded(item.sampled)] : []),
      answers,
      ...scores(item),
    ];
  }

  function labelled(className, label, text) {
    const made = element("p", className);
    made.append(element("b", "", label), text);
    return made;
  }

  let unfolded = false; // from one question to the next, the sampled references stay as they were
  function folded(texts) {
    const made = element("details");
    made.open = unfolded;
    made.addEventListener("toggle", () => (unfolded = made.open));
    const head = element("summary", "", `抽自别题的参考（${texts.length}） `);
    head.append(element("span", "en", "references sampled from other questions"));
    made.append(head, ...texts.map((text) => labelled("reference sampled", "抽样", text)));
    return made;
  }

  // One table a protocol: two never share one, for their scores do not compare.
  function scores(item) {
    const protocols = new Map();
    data.columns.forEach((column, place) => {
      const cut = column.lastIndexOf("/");
      const protocol = cut < 0 ? column : column.slice(0, cut);
      protocols.set(protocol, [...(protocols.get(protocol) ?? []), [column.slice(cut + 1), place]]);
    });
    return [...protocols].flatMap(([protocol, columns]) => {
      const signed = element("p", "signed");
      signed.append(element("b", "", protocol), ...(data.signatures[protocol] ?? []).map((line) => element("code", "", line)));
      const region = element("div", "scroll");
      region.tabIndex = 0;
      region.setAttribute("role", "region");
      region.setAttribute("aria-label", `${protocol} 的分数 / scores`);
      const table = element("table");
      const heads = table.createTHead().insertRow();
      heads.append(...["系统", ...columns.map(([metric]) => metric)].map((name, place) => element("th", place ? "n" : "", name)));
      const body = table.createTBody();
      names.forEach((name, system) => {
        const row = body.insertRow();
        row.className = data.systems[system][1];
        row.append(element("th", "", name));
        for (const [, place] of columns) {
          const chosen = place === Number(controls.column.value) ? "n chosen" : "n";
          row.append(element("td", chosen, decimal(item.scores[system][place])));
        }
      });
      region.append(table);
      return [signed, region];
    });
  }

  const again = (place) => {
    const kept = select();
    show(place ?? Math.max(0, shown.indexOf(kept)));
  };
  for (const control of [controls.find, controls.category, controls.order]) control.addEventListener("input", () => again(0));
  for (const control of [controls.column, controls.first, controls.second]) {
    control.addEventListener("input", () => again(controls.order.value ? 0 : undefined));
  }
  figure.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  figure.querySelector("[name=previous]").addEventListener("click", () => show(at - 1));
  figure.querySelector("[name=next]").addEventListener("click", () => show(at + 1));
  figure.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    const steps = { j: 1, k: -1 };
    if (event.target === list) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity });
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(at + step);
  });
  figure.hidden = false;
  again(0);
}

function negative(value, measure) {
  return value === null ? null : -measure(value);
}

function decimal(value, signed = false) {
  if (value === null || value === undefined) return "—";
  const words = (Math.round(value * 100) / 100 + 0).toFixed(2);
  return (signed && value > 0 ? "+" : "") + words.replace("-", "−");
}
