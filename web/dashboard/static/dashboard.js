// The page's behaviour: which view is shown, the stream that keeps it alive, and requests that change something.
// Fragments come from /ui as HTML that the server has escaped. Changes go to /v1 as JSON, as any program's do.
// Texts of the database never become HTML here: they are set as textContent.
import htmx from "./vendor/htmx.esm.min.js";
import { Charts } from "./charts.js";

const $ = (id) => document.getElementById(id);
const TOKEN = "entgldb-token";
const RETRY_MS = [500, 1000, 2000, 4000];
const SILENCE_MS = 15_000;
const TOAST_MS = 6000;

// --- asking the server ---------------------------------------------------------------------------------------

let tokenAsked = null;

// One dialog for all requests that were refused at the same time.
function askToken() {
  tokenAsked ??= new Promise((resolve) => {
    const dialog = $("token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, $("token-typed").value.trim());
      $("token-typed").value = "";
      tokenAsked = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return tokenAsked;
}

// fetch with the token, which a person is asked for as often as the server refuses it.
async function ask(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = token ? { ...options.headers, Authorization: `Bearer ${token}` } : options.headers;
    const answer = await fetch(path, { ...options, headers, credentials: "omit" });
    if (answer.status !== 401) return answer;
    // a person may have given another one while this request was on its way
    if (sessionStorage.getItem(TOKEN) === token) await askToken();
  }
}

async function problemOf(answer) {
  try {
    const told = await answer.json();
    return told.detail + (told.hint ? ` Try: ${told.hint}` : "");
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

function toast(text, bad = false) {
  const shown = document.createElement("p");
  shown.className = bad ? "toast bad" : "toast";
  shown.textContent = (bad ? "✕ " : "✓ ") + text;
  $("toasts").append(shown);
  setTimeout(() => shown.remove(), TOAST_MS);
}

// --- views ---------------------------------------------------------------------------------------------------

htmx.config.noSwap = [204, 304, "4xx", "5xx"];
htmx.config.history = false;
const charts = new Charts();

const here = () => location.hash.slice(1) || "overview";
const viewOf = (place) => ({ document: "documents" })[place.split("?")[0]] ?? place.split("?")[0];

async function show(place = here(), focus = false) {
  if (!/^[a-z]+(\?|$)/.test(place)) return; // the target of the skip link, say
  const name = viewOf(place);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await htmx.ajax("GET", `/ui/${place}`, { target: "#view", swap: "innerHTML", source: $("view") });
  charts.mount();
  document.title = `${$("view").querySelector("h1")?.textContent.trim() ?? name} · EntglDB`;
  if (focus) $("view").focus({ preventScroll: true });
}

// The view that a request of htmx is for, or nothing: a part of one is drawn anew.
const asked = (request) => request.target === $("view") ? viewOf(request.request.action.slice("/ui/".length)) : "";

let shown = ""; // the view that is to be seen, whichever was asked for

// No other view stays under the name of one that did not come.
function empty(name) {
  shown = name;
  const title = document.createElement("h1"), said = document.createElement("p");
  title.textContent = name[0].toUpperCase() + name.slice(1);
  said.className = "empty";
  said.textContent = "It cannot be shown now.";
  $("view").replaceChildren(title, said);
}

const marks = {};

// Draw anew what has changed, unless a person is about to do something in it.
function refresh(fresh) {
  for (const part of document.querySelectorAll("[data-live]")) {
    const { live, mark, pick } = part.dataset;
    if (fresh[mark] === marks[mark] || busy(part)) continue;
    marks[mark] = fresh[mark];
    const how = pick ? { swap: "outerMorph", select: pick } : { swap: "innerMorph" };
    htmx.ajax("GET", live, { target: part, source: part, ...how });
  }
  for (const name of Object.keys(fresh)) {
    if (!document.querySelector(`[data-mark="${name}"]`)) marks[name] = fresh[name];
  }
}

const busy = (part) =>
  document.querySelector("dialog[open]") !== null ||
  part.querySelector("details[open], [aria-busy]") !== null ||
  (part.contains(document.activeElement) && document.activeElement.matches("input, textarea"));

document.addEventListener("htmx:config:request", ({ detail }) => {
  // fetch is exchanged for the one that knows the token
  detail.ctx.fetch = (path, request) => ask(path, request);
});
document.addEventListener("htmx:response:error", async ({ detail }) => {
  let text = `The server answered ${detail.ctx.response.status}.`;
  try {
    const told = JSON.parse(detail.ctx.text);
    text = told.detail + (told.hint ? ` Try: ${told.hint}` : "");
  } catch { /* not a problem of ours: its status says enough */ }
  if (![503, 504].includes(detail.ctx.response.status)) return toast(text, true);
  lost = true; // the view is fetched again when the node answers
  banner(text);
  const name = asked(detail.ctx);
  if (name && name !== shown) empty(name);
});
document.addEventListener("htmx:after:swap", ({ detail }) => { shown = asked(detail.ctx) || shown; });
addEventListener("hashchange", () => {
  // a question belongs to the view that it was asked in
  for (const one of document.querySelectorAll("dialog[open]:not(#token)")) one.close();
  show(here(), true);
});

// --- the stream ----------------------------------------------------------------------------------------------

function banner(text) {
  $("banner").hidden = !text;
  $("banner").textContent = text;
}

const handlers = {
  history: (rows) => charts.fill(rows),
  pulse(told) {
    $("state").className = told.up ? "state up" : "state down";
    if (!told.up) {
      $("state").textContent = "no answer";
      lose(`The node does not answer: ${told.why}. This page goes on by itself when it does.`);
      return;
    }
    $("state").textContent = told.role === "lan" ? `${told.node}${told.gateway === told.node ? ", gateway" : ""}` : `${told.node}, cloud`;
    heardAt = new Date();
    if (lost) back();
    charts.add(told.row);
    for (const [name, count] of Object.entries(told.counts)) {
      const badge = document.querySelector(`nav a[data-view="${name}"] b`);
      badge.hidden = !count;
      badge.textContent = count;
    }
    refresh(told.marks);
  },
};

let lost = false;
let heardAt = new Date();

function lose(text) {
  lost = true;
  banner(`${text} What stands below was true at ${heardAt.toLocaleTimeString()}.`);
}

function back() {
  lost = false;
  banner("");
  if (!busy($("view"))) show();
}

// Server-sent events by fetch: EventSource cannot bring a token.
async function listen() {
  for (let failures = 0; ; failures++) {
    const stop = new AbortController();
    let silence;
    // a phone that slept, or went to another network, is not told that its connection is gone
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(new Error("nothing came any more")), SILENCE_MS);
    };
    try {
      const answer = await ask("/ui/pulse", { headers: { Accept: "text/event-stream" }, signal: stop.signal });
      if (!answer.ok) throw new Error(await problemOf(answer));
      failures = 0;
      heard();
      await events(answer.body, heard);
      throw new Error("the stream ended");
    } catch (fault) {
      clearTimeout(silence);
      $("state").className = "state down";
      $("state").textContent = "no server";
      lose(`The server of this page does not answer (${fault.message}). Trying again…`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
  }
}

async function events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const parts = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = Object.fromEntries(part.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.data) handlers[fields.event]?.(JSON.parse(fields.data));
    }
  }
}

// --- requests that change something --------------------------------------------------------------------------

// Asks for the name of a thing before something is done to it that cannot be taken back.
function confirmed(name, warning, label) {
  const dialog = $("ask"), typed = $("ask-typed"), yes = $("ask-yes");
  $("ask-title").textContent = `${label}: ${name}`;
  $("ask-warning").textContent = warning;
  $("ask-name").textContent = name;
  yes.textContent = label;
  yes.disabled = true;
  typed.value = "";
  typed.oninput = () => { yes.disabled = typed.value !== name; };
  typed.onkeydown = (event) => { if (event.key === "Enter" && yes.disabled) event.preventDefault(); };
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" && typed.value === name), { once: true });
  });
}

// The value of a field as JSON: as it was typed, as the words in it, or as a text.
function valueOf(field) {
  if (field.dataset.type === "words") return JSON.stringify(field.value.split(/\s+/).filter(Boolean));
  if (field.dataset.type === "json") JSON.parse(field.value);
  return field.dataset.type === "json" ? field.value : JSON.stringify(field.value);
}

// The JSON of a form. Documents stay the text that was typed: JavaScript would round their large numbers.
function bodyOf(form) {
  const parts = [];
  for (const field of form.elements) {
    if (!field.name || field.dataset.type === "path" || (!field.value && field.type !== "hidden")) continue;
    parts.push(`${JSON.stringify(field.name)}:${valueOf(field)}`);
  }
  return `{${parts.join(",")}}`;
}

// One write as a batch, in which the key is no part of a path: any key can be written.
function batchOf(form) {
  const { batch: op, collection, key, version } = form.dataset;
  const write = { op, collection };
  const typed = key ?? form.elements.key?.value;
  if (typed) write.key = typed;
  if (version) write.if_version = version;
  const text = form.elements.document?.value;
  if (text !== undefined) JSON.parse(text);
  const whole = JSON.stringify(write);
  return `{"writes":[${text === undefined ? whole : `${whole.slice(0, -1)},"document":${text}}`}]}`;
}

async function call(form, button) {
  const { call: method, path, name, warning, done, show: shows } = form.dataset;
  let body;
  try {
    body = form.dataset.batch ? batchOf(form) : bodyOf(form);
  } catch (fault) {
    return toast(`This is no JSON: ${fault.message}`, true);
  }
  if (name && !(await confirmed(name, warning, button.textContent))) return;
  const place = path.replace(/\{(\w+)\}/g, (_, field) => encodeURIComponent(form.elements[field].value));
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    const headers = { "Content-Type": "application/json" };
    const answer = await ask(place, { method, headers, body: method === "DELETE" ? undefined : body });
    if (!answer.ok) return toast(await problemOf(answer), true);
    const told = answer.status === 204 ? {} : await answer.json();
    if (shows === "steps") tell(told.steps);
    else if (shows === "code") invited(told);
    else toast(done ?? "done");
    form.closest("details")?.removeAttribute("open");
    button.removeAttribute("aria-busy");
    await show();
  } catch (fault) {
    toast(`The server does not answer: ${fault.message}`, true);
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
  }
}

// The steps of a test of a peer.
function tell(steps) {
  $("told-title").textContent = steps.every((step) => step.ok) ? "It works" : "It does not work";
  $("told-steps").replaceChildren(...steps.map((step) => {
    const row = document.createElement("li");
    const rest = [step.ms === undefined ? "" : `${Math.round(step.ms)} ms`, step.reason, step.text, step.detail, step.hint];
    row.textContent = `${step.ok ? "✓" : "✕"} ${step.name}  ${rest.filter(Boolean).join(", ")}`;
    return row;
  }));
  $("told").showModal();
}

// The code of an invitation, to be read aloud or looked at by a camera; it is forgotten when the dialog closes.
function invited(told) {
  const picture = new DOMParser().parseFromString(told.qr, "image/svg+xml").documentElement;
  $("code-text").textContent = `entgldb init --join ${told.code}`;
  $("code-picture").replaceChildren(picture);
  $("code").addEventListener("close", () => {
    $("code-text").textContent = "";
    $("code-picture").replaceChildren();
  }, { once: true });
  $("code").showModal();
}

// A download brings the token too; without one the browser writes the file as it comes.
async function download(link) {
  link.setAttribute("aria-busy", "true");
  try {
    const answer = await ask(link.getAttribute("href"));
    if (!answer.ok) return toast(await problemOf(answer), true);
    const made = document.createElement("a");
    made.href = URL.createObjectURL(await answer.blob());
    made.download = answer.headers.get("Content-Disposition")?.match(/filename="([^"]+)"/)?.[1] ?? "entgldb-backup.db";
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), TOAST_MS);
  } finally {
    link.removeAttribute("aria-busy");
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.call) {
    event.preventDefault();
    call(form, event.submitter ?? form.querySelector("button"));
  } else if (form.dataset.view) {
    event.preventDefault();
    event.stopPropagation();
    const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    location.hash = `${form.dataset.view}?${asked}`;
  }
}, true);

document.addEventListener("click", (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) navigator.clipboard.writeText(copy.dataset.copy).then(() => toast("copied"), () => toast("not copied", true));
  const link = event.target.closest("a[data-download]");
  if (link && sessionStorage.getItem(TOKEN)) {
    event.preventDefault();
    download(link);
  }
});

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const links = document.querySelectorAll("nav a");
  if (event.key >= "1" && event.key <= String(links.length)) links[event.key - 1].click();
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector(".search input:not([type=hidden])")?.focus();
  }
});

show();
listen();
