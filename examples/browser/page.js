// The page: a list of uploads, and what the user can do about each.
import { abandon, routeFor, upload } from "./upload.js";

const FILES_AT_ONCE = 3;
const REFRESH_MS = 500;
const SPEED_OVER_MS = 5000;

const input = document.querySelector("input[type=file]");
const drop = document.querySelector(".drop");
const section = document.querySelector("section");
const list = document.querySelector("ul");
const log = document.querySelector("[role=log]");
const template = document.querySelector("template");
const items = new Set();

// The buttons of each phase.
const BUTTONS = {
  waiting: ["cancel"],
  sending: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  cancelled: ["retry", "remove"],
  failed: ["retry", "remove"],
  done: ["remove"],
};

const ACTIONS = {
  pause: (item) => item.controller.abort("paused"),
  resume: enqueue,
  retry: enqueue,
  cancel: (item) => (item.phase === "sending" ? item.controller.abort("cancelled") : cancel(item)),
  remove,
};

function add(file) {
  const element = template.content.cloneNode(true).querySelector("li");
  const chosen = document.querySelector("[name=route]:checked").value;
  const route = routeFor(file) === "multipart" ? "multipart" : chosen;
  const item = { file, route, element, state: {}, sent: 0 };
  element.querySelector(".name").textContent = file.name;
  const progress = element.querySelector("progress");
  progress.ariaLabel = `Progress of ${file.name}`;
  progress.max = file.size;
  for (const button of element.querySelectorAll("button")) {
    button.ariaLabel = `${button.textContent} ${file.name}`;
    button.addEventListener("click", () => ACTIONS[button.value](item));
  }
  items.add(item);
  list.append(element);
  section.hidden = false;
  enqueue(item);
}

function enqueue(item) {
  show(item, "waiting");
  startNext();
}

function startNext() {
  const inPhase = (phase) => [...items].filter((item) => item.phase === phase);
  const free = FILES_AT_ONCE - inPhase("sending").length;
  inPhase("waiting").slice(0, free).forEach(start);
}

async function start(item) {
  const { file, route, state } = item;
  item.controller = new AbortController();
  const { signal } = item.controller;
  item.samples = [];
  if (route !== "multipart") item.sent = 0;
  show(item, "sending");
  try {
    item.objectKey = await upload(file, { route, signal, state, onProgress: (bytes) => (item.sent = bytes) });
    item.sent = file.size;
    show(item, "done");
  } catch (error) {
    item.error = error;
    if (signal.reason === "cancelled") cancel(item);
    else show(item, signal.reason ?? "failed");
  }
  startNext();
}

function cancel(item) {
  item.sent = 0;
  show(item, "cancelled");
  giveUp(item); // a retry does not have to wait for this, because it starts another upload
}

// If this fails, the bucket deletes the parts after a few days.
const giveUp = (item) => abandon(item.state).catch(() => {});

function remove(item) {
  const neighbor = item.element.nextElementSibling ?? item.element.previousElementSibling;
  items.delete(item);
  item.element.remove();
  section.hidden = items.size === 0;
  (neighbor?.querySelector("button:not([hidden])") ?? input).focus();
  giveUp(item);
}

function show(item, phase) {
  item.phase = phase;
  item.element.dataset.phase = phase;
  const focused = document.activeElement;
  const isShown = ({ value }) =>
    BUTTONS[phase].includes(value) &&
    (value !== "pause" || item.route === "multipart") &&
    (value !== "retry" || item.error?.retry !== "never");
  const buttons = [...item.element.querySelectorAll("button")];
  for (const button of buttons) button.hidden = !isShown(button);
  if (buttons.includes(focused) && focused.hidden) buttons.find(isShown).focus();
  refresh(item);
  if (["paused", "cancelled", "failed", "done"].includes(phase)) announce(item);
}

function refresh(item) {
  const { element, error, file, objectKey, phase, sent } = item;
  const total = formatBytes(file.size);
  const status = {
    waiting: () => `Waiting · ${total}`,
    sending: () => (sent < file.size ? `${formatBytes(sent)} of ${total}${pace(item)}` : "Finishing…"),
    paused: () => `Paused · ${formatBytes(sent)} of ${total}`,
    cancelled: () => "Cancelled",
    failed: () => error.message,
    done: () => `Uploaded · ${total}`,
  };
  element.querySelector(".status").textContent = status[phase]();
  element.querySelector("progress").value = sent;
  element.querySelector(".detail").textContent = { failed: error?.detail, done: objectKey }[phase] ?? "";
}

/** Returns the speed and the time left, or an empty text if it is too early to tell. */
function pace({ file, samples, sent }) {
  const now = performance.now();
  samples.push({ at: now, sent });
  while (samples[0].at < now - SPEED_OVER_MS) samples.shift();
  const bytesPerSecond = ((sent - samples[0].sent) / (now - samples[0].at)) * 1000;
  if (!(bytesPerSecond > 0)) return "";
  return ` · ${formatBytes(bytesPerSecond)}/s · ${formatSeconds((file.size - sent) / bytesPerSecond)} left`;
}

function announce({ element, file }) {
  const line = document.createElement("p");
  line.textContent = `${file.name}: ${element.querySelector(".status").textContent}`;
  log.append(line);
}

function formatBytes(bytes) {
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 4);
  const unit = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"][power];
  return formatUnit(bytes / 1000 ** power, unit, { maximumFractionDigits: power > 1 ? 1 : 0 });
}

function formatSeconds(seconds) {
  if (seconds < 60) return formatUnit(Math.ceil(seconds), "second");
  if (seconds < 3600) return formatUnit(Math.ceil(seconds / 60), "minute");
  return formatUnit(seconds / 3600, "hour", { maximumFractionDigits: 1 });
}

function formatUnit(value, unit, options) {
  const unitDisplay = unit === "byte" ? "long" : "short";
  return new Intl.NumberFormat("en", { style: "unit", unit, unitDisplay, ...options }).format(value);
}

input.addEventListener("change", () => {
  [...input.files].forEach(add);
  input.value = ""; // so that the same file can be chosen again
});

// On the whole page, because a browser leaves the page to open a file that is dropped elsewhere.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  [...event.dataTransfer.files].forEach(add);
});

window.addEventListener("beforeunload", (event) => {
  const isActive = ({ phase }) => ["waiting", "sending", "paused"].includes(phase);
  if ([...items].some(isActive)) event.preventDefault();
});

setInterval(() => {
  for (const item of items) if (item.phase === "sending") refresh(item);
}, REFRESH_MS);
