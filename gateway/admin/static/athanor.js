// What a page does beside htmx: live news, local times, confirmations. No page needs it to be read.
"use strict";

// Times are written in UTC; a person reads local time, and finds UTC on hover.
function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const at = new Date(time.dateTime);
    time.title = `${time.dateTime.replace("T", " ").replace("Z", "")} UTC`;
    time.textContent = at.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
  }
}

// One stream of news per page: whatever listens for athanor:changed loads itself again.
function listen() {
  if (!document.body.dataset.live) return;
  const stale = document.getElementById("stale");
  let heard = Date.now();
  const source = new EventSource("/events");
  source.addEventListener("changed", () => {
    heard = Date.now();
    document.body.dispatchEvent(new CustomEvent("athanor:changed"));
  });
  source.addEventListener("alive", () => { heard = Date.now(); });
  setInterval(() => { stale.hidden = Date.now() - heard < 15000; }, 1000);
  addEventListener("pagehide", () => source.close());
}

// A form with data-confirm asks first, in words that name the object; {name} stands for what was chosen in that field.
function confirmations() {
  const dialog = document.getElementById("confirm");
  let waiting = null;
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.confirm || form.dataset.confirmed) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    waiting = { form, button: event.submitter };
    const chosen = (_, name) => new FormData(form).getAll(name).join(", ") || "nowhere";
    dialog.querySelector("p").textContent = form.dataset.confirm.replace(/\{(\w+)\}/g, chosen);
    dialog.showModal();
  }, true);
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "yes" && waiting) {
      waiting.form.dataset.confirmed = "yes";
      waiting.form.requestSubmit(waiting.button);
      delete waiting.form.dataset.confirmed;
    }
    waiting = null;
    document.body.dispatchEvent(new CustomEvent("athanor:changed"));
  });
  // a form that is asked about must still be there when the answer comes
  document.body.addEventListener("htmx:beforeSwap", (event) => { if (dialog.open) event.detail.shouldSwap = false; });
}

// What goes wrong is said where the page says what was done.
function sayErrors() {
  // what was said is taken away by the next click: it must not stay in front of what it was about
  document.addEventListener("click", () => document.getElementById("said")?.replaceChildren(), true);
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status < 400 || event.detail.target.getAttribute("role") !== "status") return;
    event.detail.shouldSwap = true;
    event.detail.selectOverride = "main > *";
  });
}

// What a person opened stays open when the part around it loads itself again.
function keepOpen() {
  const key = (details) => `${details.closest("[aria-labelledby]")?.getAttribute("aria-labelledby")} ${details.querySelector("summary").textContent}`;
  let open = new Set();
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    open = new Set([...event.detail.target.querySelectorAll("details[open]")].map(key));
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    for (const details of event.detail.target.querySelectorAll("details")) if (open.has(key(details))) details.open = true;
  });
}

document.addEventListener("DOMContentLoaded", () => {
  keepOpen();
  localTimes(document);
  confirmations();
  sayErrors();
  listen();
  document.body.addEventListener("htmx:afterSwap", (event) => localTimes(event.target));
});
