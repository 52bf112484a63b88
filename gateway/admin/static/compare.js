// The viewer of the Compare page: two stacks of stored values, windowed here and scrolled together.

import { Frames, WARNING, clear, difference, grey, place, windowOf, words, write } from "./compare-frames.js";

const CT_WINDOWS = [
  { name: "soft tissue", center: 40, width: 400 }, { name: "lung", center: -600, width: 1500 },
  { name: "bone", center: 400, width: 1800 },
];
const AHEAD = 3; // slices that are fetched before somebody asks for them
const NOTCH = 50; // pixels of wheel for one slice
const WHOLE_WINDOW_PX = 250; // a drag of so many pixels changes a window by its own width
const SAID_AFTER_MS = 500;
const MODES = { side: "Side by side", swipe: "Swipe", difference: "Difference" };

class Viewer {
  constructor(root, sides) {
    this.root = root;
    this.sides = sides;
    this.frames = new Frames();
    this.state = { slice: 0, mode: "side", split: 0.5, active: "source", linked: false, windows: {}, range: 0 };
    this.wheel = 0;
    this.asked = 0;
    this.canvases = {};
    for (const figure of root.querySelectorAll("figure")) {
      this.canvases[figure.dataset.side] = figure.querySelector("canvas");
      figure.querySelector(".title").textContent = sides[figure.dataset.side].title;
    }
    this.model = root.dataset.pipeline;
    this.isSameUnit = sides.unit !== "";
    this.state.range = this.isSameUnit ? 100 : 200;
    this.state.slice = Math.floor(sides.slices.length / 2);
  }

  async start() {
    for (const side of ["source", "synthetic"]) await this.openWindow(side);
    document.getElementById("slice").max = this.sides.slices.length;
    document.getElementById("range").value = this.state.range;
    document.getElementById("difference-words").textContent = this.isSameUnit
      ? `Synthetic less source in ${this.sides.unit}: orange is higher, blue is lower.`
      : "Difference of displayed brightness, synthetic less source, each in its window: orange is brighter, blue is "
        + "darker. The two series are not in the same unit, so this is no difference of measured values.";
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.root.querySelector(".stage"));
    await this.draw();
    const nobodyMoved = document.activeElement === document.body && !location.hash;
    if (nobodyMoved) this.canvases.source.focus({ preventScroll: true });
  }

  // The window that the header names first, or one over the values of the middle slice; and the choice of them.
  async openWindow(side) {
    const { windows, unit } = this.sides[side];
    const has = this.sides.slices.map((pair) => pair[side]).filter(Boolean);
    const middle = await this.frames.get(has[Math.floor(has.length / 2)]);
    const choices = [
      ...windows, ...(unit === "HU" ? CT_WINDOWS : []), { name: "of the values", ...windowOf(middle) },
      { name: "all values", ...windowOf(middle, 0, 1) },
    ];
    const box = this.root.querySelector(`.window[data-side="${side}"]`);
    const select = box.querySelector("select");
    choices.forEach(({ name }, index) => select.add(new Option(name, index)));
    select.add(new Option("by hand", "hand"));
    box.querySelector('[data-role="unit"]').textContent = unit && `in ${unit}`;
    this.sides[side].choices = choices;
    this.state.windows[side] = { center: choices[0].center, width: choices[0].width };
    select.addEventListener("change", () => {
      if (select.value !== "hand") this.setWindow(side, choices[Number(select.value)], false);
    });
    for (const role of ["center", "width"]) {
      box.querySelector(`[data-role="${role}"]`).addEventListener("change", (event) => {
        const value = Number(event.target.value);
        if (event.target.value === "" || !Number.isFinite(value)) return;
        this.setWindow(side, { ...this.state.windows[side], [role]: value });
      });
    }
  }

  // With linked windows the other side takes the same window where the unit is the same, else the same change.
  setWindow(side, { center, width }, moves = true) {
    const before = this.state.windows[side];
    const after = { center, width: Math.max(1, width) };
    this.state.windows[side] = after;
    if (this.state.linked && moves) {
      const other = side === "source" ? "synthetic" : "source";
      const theirs = this.state.windows[other];
      const factor = theirs.width / before.width;
      this.state.windows[other] = this.isSameUnit ? { ...after } : {
        center: theirs.center + (after.center - before.center) * factor,
        width: Math.max(1, after.width * factor),
      };
    }
    this.draw();
  }

  resetWindows() {
    for (const side of ["source", "synthetic"]) {
      const { center, width } = this.sides[side].choices[0];
      this.state.windows[side] = { center, width };
    }
    this.draw();
  }

  go(slice) {
    this.state.slice = Math.max(0, Math.min(this.sides.slices.length - 1, slice));
    this.draw();
  }

  setMode(mode) {
    this.state.mode = mode;
    this.root.querySelector(`input[name="mode"][value="${mode}"]`).checked = true;
    this.root.querySelector(".stage").dataset.mode = mode;
    const hadFocus = document.activeElement === this.canvases.source;
    this.root.querySelector('figure[data-side="source"]').hidden = mode !== "side";
    if (hadFocus && mode !== "side") this.canvases.synthetic.focus({ preventScroll: true });
    for (const one of this.root.querySelectorAll(".only-swipe")) one.hidden = mode !== "swipe";
    for (const one of this.root.querySelectorAll(".only-difference")) one.hidden = mode !== "difference";
    this.draw();
  }

  setSplit(split) {
    this.state.split = Math.max(0, Math.min(1, split));
    this.draw();
  }

  // Draws what is asked for last; a slice that comes after another was asked for is kept for later.
  async draw() {
    const asked = ++this.asked;
    const { slice } = this.state;
    const pair = this.sides.slices[slice];
    this.show();
    const sides = ["source", "synthetic"];
    const settled = await Promise.allSettled(sides.map((side) => pair[side] && this.frames.get(pair[side])));
    if (asked !== this.asked) return;
    const frames = Object.fromEntries(sides.map((side, index) => [side, settled[index].value ?? null]));
    const failed = settled.find((one) => one.status === "rejected");
    this.say("viewer-problem", failed ? `Slice ${slice + 1} cannot be shown: ${failed.reason.message}` : "");
    if (this.state.mode === "side") for (const side of sides) this.paintSide(side, frames[side]);
    else this.paintBoth(frames);
    const { source, synthetic } = this.state.windows;
    const numbers = [source.center, source.width, synthetic.center, synthetic.width, this.state.split * 100];
    this.root.dataset.drawn = [this.state.mode, slice + 1, ...numbers.map(Math.round)].join(" ");
    for (let ahead = 1; ahead <= AHEAD; ahead += 1) this.fetchAhead(slice + ahead, slice - ahead);
  }

  fetchAhead(...slices) {
    for (const slice of slices) {
      const pair = this.sides.slices[slice];
      for (const one of pair ? [pair.source, pair.synthetic] : []) if (one) this.frames.get(one).catch(() => {});
    }
  }

  // The corners below stay free: the label that is burned into the pixels may be there.
  paintSide(side, frame) {
    const context = clear(this.canvases[side]);
    if (frame) this.paint(context, grey(frame, this.state.windows[side]), side);
    const missing = frame ? [] : [`no ${side} slice to show here`];
    if (side === "synthetic") this.label(context, ...missing);
    else write(context, ["Source", ...missing]);
  }

  paint(context, image, side) {
    context.drawImage(image, ...place(context.canvas, image, this.sides[side].pixel_aspect));
  }

  paintBoth({ source, synthetic }) {
    const context = clear(this.canvases.synthetic);
    if (this.state.mode === "swipe") {
      this.paintSwipe(context, source, synthetic);
      this.label(context, "right of the line");
    } else if (source && synthetic && source.rows * synthetic.columns === synthetic.rows * source.columns) {
      this.paint(context, difference(source, synthetic, this.state, this.isSameUnit), "source");
      const { range } = this.state;
      const unit = this.sides.unit;
      this.label(context, this.isSameUnit ? "difference" : "difference of displayed brightness", `± ${range} ${unit}`);
    } else {
      this.label(context, "no difference: one side has no slice here, or another shape");
    }
  }

  paintSwipe(context, source, synthetic) {
    const { width, height } = context.canvas;
    const x = this.state.split * width;
    if (source) this.paint(context, grey(source, this.state.windows.source), "source");
    write(context, ["Source"]);
    context.save();
    context.beginPath();
    context.rect(x, 0, width - x, height);
    context.clip();
    context.fillStyle = "#000";
    context.fillRect(x, 0, width - x, height);
    if (synthetic) this.paint(context, grey(synthetic, this.state.windows.synthetic), "synthetic");
    context.restore();
    context.fillStyle = WARNING;
    context.fillRect(x - 1, 0, 3, height);
  }

  label(context, ...words) {
    write(context, ["SYNTHETIC", "not for diagnosis", this.model, ...words], { right: true, colour: WARNING });
  }

  // What stands beside the canvases; the status is said once the hand rests.
  show() {
    const { slice, windows, mode } = this.state;
    const count = this.sides.slices.length;
    const pair = this.sides.slices[slice];
    const number = (pair.synthetic ?? pair.source).number;
    const at = pair.synthetic?.position_mm ?? pair.source?.position_mm ?? null;
    const image = number === null ? "" : `, image ${number}`;
    const text = `${slice + 1} of ${count}${image}${at === null ? "" : `, at ${at.toFixed(1)} mm`}`;
    document.getElementById("slice").value = slice + 1;
    document.getElementById("slice").setAttribute("aria-valuetext", text);
    document.getElementById("slice-words").textContent = text;
    document.getElementById("split").value = Math.round(this.state.split * 100);
    for (const side of ["source", "synthetic"]) {
      const box = this.root.querySelector(`.window[data-side="${side}"]`);
      const { center, width } = windows[side];
      for (const role of ["center", "width"]) {
        box.querySelector(`[data-role="${role}"]`).value = Math.round(windows[side][role] * 100) / 100;
      }
      const chosen = this.sides[side].choices.findIndex((one) => one.center === center && one.width === width);
      box.querySelector("select").value = chosen < 0 ? "hand" : chosen;
    }
    clearTimeout(this.timer);
    const said = ["source", "synthetic"].map((side) => {
      const { center, width } = windows[side];
      return `${side} window centre ${Math.round(center)} width ${Math.round(width)}`;
    });
    const status = `${MODES[mode]}, slice ${text}. ${said.join(", ")}`;
    this.timer = setTimeout(() => this.say("viewer-status", status), SAID_AFTER_MS);
  }

  say(id, text) {
    const place = document.getElementById(id);
    place.textContent = text;
    if (id !== "viewer-status") place.hidden = !text;
  }

  listen() {
    for (const [side, canvas] of Object.entries(this.canvases)) this.listenTo(side, canvas);
    const on = (id, event, act) => document.getElementById(id)?.addEventListener(event, ({ target }) => act(target));
    for (const radio of this.root.querySelectorAll('input[name="mode"]')) {
      radio.addEventListener("change", () => this.setMode(radio.value));
    }
    on("slice", "input", (slider) => this.go(Number(slider.value) - 1));
    on("split", "input", (slider) => this.setSplit(Number(slider.value) / 100));
    on("linked", "change", (box) => { this.state.linked = box.checked; });
    on("range", "change", (field) => {
      this.state.range = Math.max(1, Number(field.value) || 1);
      this.draw();
    });
    on("this-slice", "click", () => { document.getElementById("feedback-slice").value = this.state.slice + 1; });
  }

  listenTo(side, canvas) {
    canvas.addEventListener("focus", () => { this.state.active = side; });
    canvas.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return; // the browser's zoom
      event.preventDefault();
      this.wheel += Math.max(-NOTCH, Math.min(NOTCH, event.deltaMode ? event.deltaY * NOTCH : event.deltaY));
      const steps = Math.trunc(this.wheel / NOTCH);
      this.wheel -= steps * NOTCH;
      if (steps) this.go(this.state.slice + steps);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      if (this.press(event)) event.preventDefault();
    });
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY, window: { ...this.state.windows[side] } };
      if (this.state.mode === "swipe") this.setSplit(event.offsetX / canvas.clientWidth);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      if (this.state.mode === "swipe") return void this.setSplit(event.offsetX / canvas.clientWidth);
      const step = from.window.width / WHOLE_WINDOW_PX;
      this.setWindow(side, {
        center: from.window.center + (event.clientY - from.y) * step,
        width: from.window.width + (event.clientX - from.x) * step,
      });
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
  }

  // Whether the key meant something.
  press({ key, shiftKey, ctrlKey, altKey, metaKey }) {
    if (ctrlKey || altKey || metaKey) return false;
    const { slice, windows, active, mode, split } = this.state;
    const { center, width } = windows[active];
    const shifted = {
      ArrowUp: () => this.setWindow(active, { center: center - width / 20, width }),
      ArrowDown: () => this.setWindow(active, { center: center + width / 20, width }),
      ArrowLeft: () => this.setWindow(active, { center, width: width / 1.1 }),
      ArrowRight: () => this.setWindow(active, { center, width: width * 1.1 }),
    };
    const plain = {
      ArrowUp: () => this.go(slice - 1),
      ArrowDown: () => this.go(slice + 1),
      ArrowLeft: () => (mode === "swipe" ? this.setSplit(split - 0.02) : this.go(slice - 1)),
      ArrowRight: () => (mode === "swipe" ? this.setSplit(split + 0.02) : this.go(slice + 1)),
      PageUp: () => this.go(slice - 5),
      PageDown: () => this.go(slice + 5),
      Home: () => this.go(0),
      End: () => this.go(this.sides.slices.length - 1),
      1: () => this.setMode("side"),
      2: () => this.setMode("swipe"),
      3: () => this.setMode("difference"),
      l: () => document.getElementById("linked").click(),
      r: () => this.resetWindows(),
    };
    const act = (shiftKey ? shifted : plain)[key] ?? plain[key.length === 1 ? key.toLowerCase() : ""];
    act?.();
    return Boolean(act);
  }
}

async function open() {
  const root = document.getElementById("viewer");
  const problem = document.getElementById("viewer-problem");
  try {
    const answer = await fetch(`/api/v1/jobs/${root.dataset.job}/comparison`);
    if (!answer.ok) throw new Error(await words(answer));
    const sides = await answer.json();
    if (sides.caution) document.getElementById("caution").textContent = `CAUTION: ${sides.caution}`;
    const note = document.getElementById("viewer-note");
    note.textContent = sides.note;
    note.hidden = !sides.note;
    await new Viewer(root, sides).start();
  } catch (error) {
    problem.textContent = `The images cannot be shown: ${error.message}.`;
    problem.hidden = false;
  }
}

open();
