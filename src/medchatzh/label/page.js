"use strict";

const find = selector => document.querySelector(selector);
const form = find("form");
const { submit, skip, previous, next, note } = form.elements;
const ROLES = { system: "系统", user: "问", assistant: "答" };
let state, places, current, since;

/** An element with text; texts of others get into the page by this way only, never as HTML. */
function made(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

function tell(text, kind = "") {
  const told = find("#told");
  told.textContent = text;
  told.className = `notice ${kind}`;
  told.hidden = !text;
}

/** JSON of an answer; what is refused is told to the labeller, in the server's words. */
async function ask(path, body) {
  let answer;
  try {
    answer = await fetch(path, body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    tell("连不上：终端里的 medchatzh 已经结束？ / No answer: has medchatzh ended in the terminal?", "bad");
    return null;
  }
  if (answer.ok) return answer.json();
  tell(await answer.text(), "bad");
  if (answer.status === 409) await reload(state.at, false);
  return null;
}

let busy = false;
/** One request at a time: answers cannot overtake each other, and a second Enter cannot answer a task that is not yet shown. */
async function alone(work) {
  if (busy) return;
  busy = true;
  await work().finally(() => { busy = false; });
}

async function reload(at, quietly = true) {
  const found = await ask(at === undefined ? "state" : `state?at=${at}`);
  if (found) show(found, quietly);
}

const load = at => alone(() => reload(at));

function show(found, quietly = true) {
  state = found;
  since = performance.now();
  find("#labeller").textContent = state.labeller;
  find("#bar").max = Math.max(state.total, 1);
  find("#bar").value = state.done;
  find("#count").textContent = `${state.done} / ${state.total}`;
  find("#task").hidden = state.at === null;
  if (state.at === null) {
    tell(state.total ? "全部完成，谢谢！可以关掉本页。 / All done, thank you. You may close this page." : "没有分给您的题目。 / No tasks for you.", "good");
    if (state.total) find("#told").append(" ", back());
    return;
  }
  if (quietly) tell("");
  const said = state.verdict;
  places = state.answers.map((_, number) => said?.places[number] ?? 0);
  note.value = said?.note ?? "";
  fold(true);
  if (quietly && said) tell(`已答过，提交即更改。${said.skip ? state.skips[said.skip] : ""} / Answered before; submitting changes it.`);
  question();
  find("#answers").replaceChildren(...state.answers.map(card));
  previous.disabled = state.at === 0;
  next.disabled = state.at === state.total - 1;
  choose(0);
  window.scrollTo(0, 0);
}

function back() {
  const button = made("button", "", "回看最后一题 / look back");
  button.type = "button";
  button.addEventListener("click", () => load(state.total - 1));
  return button;
}

function question() {
  const head = made("p", "category", `${state.at + 1} / ${state.total}${state.category ? ` · ${state.category}` : ""}`);
  const turns = state.prompt.map((turn, number) => {
    const line = made("p", number === state.prompt.length - 1 ? "asked" : "");
    line.append(made("b", "", ROLES[turn.role]), turn.content);
    return line;
  });
  find("#question").replaceChildren(head, ...turns);
}

function card(text, number) {
  const letter = state.letters[number];
  const answer = made("article", "answer");
  const head = made("div", "head");
  const ranks = made("div", "ranks");
  ranks.setAttribute("role", "group");
  ranks.setAttribute("aria-label", `${letter} 的名次 / rank of ${letter}`);
  state.answers.forEach((_, at) => {
    const button = made("button", "rank", String(at + 1));
    button.type = "button";
    button.addEventListener("click", () => {
      choose(number);
      place(at + 1);
    });
    ranks.append(button);
  });
  head.append(made("h2", "", `回答 ${letter}`), ranks);
  const body = made("div", "text", text);
  body.tabIndex = 0;
  body.setAttribute("role", "region");
  body.setAttribute("aria-label", `回答 ${letter} / answer ${letter}`);
  answer.append(head, body);
  answer.addEventListener("focusin", () => choose(number));
  return answer;
}

/** Marks the answer that digits rank. */
function choose(number) {
  current = number;
  [...find("#answers").children].forEach((answer, at) => {
    answer.classList.toggle("current", at === current);
    answer.querySelectorAll(".rank").forEach((button, rank) => button.setAttribute("aria-pressed", places[at] === rank + 1));
  });
  const ranked = [...new Set(places)].filter(Boolean).sort((one, other) => one - other);
  const letters = rank => [...state.letters].filter((_, at) => places[at] === rank);
  const missing = letters(0);
  find("#order").replaceChildren(ranked.map(rank => letters(rank).join(" = ")).join(" › "));
  if (missing.length) find("#order").append(made("span", "missing", `${ranked.length ? " · " : ""}待排 / to rank: ${missing.join(" ")}`));
  submit.disabled = missing.length > 0;
}

function reveal(number) {
  choose(number);
  find("#answers").children[number].scrollIntoView({ block: "nearest" });
}

function place(rank) {
  places[current] = rank;
  choose(current);
  const after = [...places.keys()].map(step => (current + 1 + step) % places.length).find(at => !places[at]);
  if (rank && after !== undefined) reveal(after);
}

const send = more => alone(async () => {
  const seconds = (performance.now() - since) / 1000;
  const found = await ask("verdict", { at: state.at, version: state.version, note: note.value, seconds, ...more });
  if (!found) return;
  document.activeElement?.blur();
  show(found);
});

function fold(folded) {
  const reasons = find("#reasons");
  reasons.hidden = folded;
  skip.setAttribute("aria-expanded", !folded);
  if (folded) return;
  const buttons = Object.entries(state.skips).map(([reason, told], number) => {
    const button = made("button", "", `${number + 1} ${told}`);
    button.type = "button";
    button.addEventListener("click", () => send({ skip: reason }));
    return button;
  });
  reasons.replaceChildren(reasons.querySelector("legend"), ...buttons);
  buttons[0].focus();
}

submit.addEventListener("click", () => send({ places }));
skip.addEventListener("click", () => fold(!find("#reasons").hidden));
previous.addEventListener("click", () => load(state.at - 1));
next.addEventListener("click", () => load(state.at + 1));
form.addEventListener("submit", event => event.preventDefault());

/** The key by its place on the keyboard where an input method (拼音 …) has taken it. */
function pressed(event) {
  const byPlace = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code)?.[1];
  return (event.key === "Process" || event.isComposing) && byPlace ? byPlace : event.key.length === 1 ? event.key.toUpperCase() : event.key;
}

document.addEventListener("keydown", event => {
  if (!state || state.at === null || busy || event.altKey || event.metaKey) return;
  const key = pressed(event);
  if (event.target === note) {
    if (key === "Escape" || (key === "Enter" && event.ctrlKey)) note.blur();
    if (key === "Enter" && event.ctrlKey && !submit.disabled) send({ places });
    return;
  }
  if (event.ctrlKey) return;
  const reasons = find("#reasons");
  const button = event.target.closest("button");
  const digit = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (!reasons.hidden && (digit || key === "Escape")) {
    if (key === "Escape") fold(true);
    else reasons.querySelectorAll("button")[digit - 1]?.click();
  } else if (digit && digit <= places.length) {
    place(digit);
  } else if (key === "Backspace") {
    place(0);
  } else if (key.length === 1 && state.letters.slice(0, places.length).includes(key)) {
    reveal(state.letters.indexOf(key));
  } else if (key === "Enter" && (!button || button.getAttribute("aria-pressed") === "true")) {
    if (!submit.disabled) send({ places });
  } else if (key === "S") {
    fold(!reasons.hidden);
  } else if (key === "N") {
    note.focus();
  } else if (key === "ArrowLeft" && !previous.disabled) {
    previous.click();
  } else if (key === "ArrowRight" && !next.disabled) {
    next.click();
  } else {
    return;
  }
  event.preventDefault();
});

load();
