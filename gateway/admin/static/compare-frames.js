// Stored values of single frames, and how they become pictures.

const TYPES = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
};
const KEPT_BYTES = 256 * 2 ** 20; // of frames
export const WARNING = "#ffb733";

// Frames by instance and number, fetched once and kept while there is room.
export class Frames {
  constructor() {
    this.kept = new Map();
    this.bytes = 0;
  }

  get(slice) {
    const key = `${slice.sop_instance_uid}/${slice.frame}`;
    const found = this.kept.get(key) ?? { frame: this.fetch(slice, key), bytes: 0 };
    this.kept.delete(key); // the latest used goes to the end
    this.kept.set(key, found);
    return found.frame;
  }

  async fetch(slice, key) {
    try {
      const answer = await fetch(`/api/v1/instances/${slice.sop_instance_uid}/frame?number=${slice.frame}`);
      if (!answer.ok) throw new Error(await words(answer));
      const header = (name) => answer.headers.get(`Frame-${name}`);
      const buffer = await answer.arrayBuffer();
      this.count(key, buffer.byteLength);
      return {
        rows: Number(header("Rows")), columns: Number(header("Columns")), stored: new TYPES[header("Type")](buffer),
        slope: Number(header("Rescale-Slope")), intercept: Number(header("Rescale-Intercept")),
        isInverted: header("Photometric-Interpretation") === "MONOCHROME1",
      };
    } catch (error) {
      this.kept.delete(key); // it may be there the next time
      throw error;
    }
  }

  count(key, bytes) {
    const entry = this.kept.get(key);
    if (entry) entry.bytes = bytes;
    this.bytes += bytes;
    for (const [oldest, { bytes: freed }] of this.kept) {
      if (this.bytes <= KEPT_BYTES || oldest === key) break;
      this.kept.delete(oldest);
      this.bytes -= freed;
    }
  }
}

export async function words(answer) {
  const body = await answer.json().catch(() => ({}));
  return `${body.error ?? `the gateway answered ${answer.status}`}${body.incident ? ` (quote ${body.incident})` : ""}`;
}

// The linear function of PS3.3 C.11.2.1.2.1: 0 to 255 for each pixel.
function brightness(frame, window) {
  const bright = new Uint8ClampedArray(frame.stored.length);
  const scale = 255 / Math.max(window.width - 1, 1e-6);
  const gain = frame.slope * scale;
  const offset = (frame.intercept - window.center + 0.5) * scale + 127.5;
  const { stored } = frame;
  for (let at = 0; at < stored.length; at += 1) bright[at] = stored[at] * gain + offset;
  if (frame.isInverted) for (let at = 0; at < bright.length; at += 1) bright[at] = 255 - bright[at];
  return bright;
}

// From the first to the 99.5th per cent of the values, for a series that names no window.
export function windowOf(frame, low = 0.01, high = 0.995) {
  const values = Float32Array.from(frame.stored, (value) => value * frame.slope + frame.intercept).sort();
  const [from, to] = [values[Math.floor(low * (values.length - 1))], values[Math.floor(high * (values.length - 1))]];
  return { center: Math.round((from + to) / 2), width: Math.max(2, Math.round(to - from)) };
}

function picture(rows, columns, pixel) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const rgba = new Uint32Array(image.data.buffer); // little endian: alpha, blue, green, red
  for (let at = 0; at < rgba.length; at += 1) rgba[at] = 0xff000000 | pixel(at);
  context.putImageData(image, 0, 0);
  return canvas;
}

export function grey(frame, window) {
  const bright = brightness(frame, window);
  return picture(frame.rows, frame.columns, (at) => bright[at] * 0x010101);
}

// Synthetic less source: orange where the synthetic one is higher, blue where it is lower. It has the pixels of the
// finer side; under each lies that of the other in which it lies.
export function difference(source, synthetic, state, isSameUnit) {
  const value = (frame, window) => {
    if (!isSameUnit) {
      const bright = brightness(frame, window);
      return (at) => bright[at];
    }
    return (at) => frame.stored[at] * frame.slope + frame.intercept;
  };
  const [before, after] = [value(source, state.windows.source), value(synthetic, state.windows.synthetic)];
  const { rows, columns } = source.columns > synthetic.columns ? source : synthetic;
  const within = (frame) => {
    if (frame.columns === columns) return (at) => at;
    const times = columns / frame.columns;
    return (at) => Math.floor(Math.floor(at / columns) / times) * frame.columns + Math.floor((at % columns) / times);
  };
  const [inSource, inSynthetic] = [within(source), within(synthetic)];
  return picture(rows, columns, (at) => {
    const part = Math.max(-1, Math.min(1, (after(inSynthetic(at)) - before(inSource(at))) / state.range));
    const [red, green, blue] = part > 0 ? [255, 150, 40] : [70, 150, 255];
    const mix = (full) => Math.round(24 + (full - 24) * Math.abs(part));
    return (mix(blue) << 16) | (mix(green) << 8) | mix(red);
  });
}

// Fits a picture into a canvas, centred, in the shape that it has in the patient.
export function place(canvas, image, aspect) {
  const [width, height] = [image.width, image.height * aspect];
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const [w, h] = [width * scale, height * scale];
  return [(canvas.width - w) / 2, (canvas.height - h) / 2, w, h];
}

export function clear(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  return context;
}

// Lines of text in an upper corner, on a ground of their own; the first line of a warning is large.
export function write(context, lines, { right = false, colour = "#e6ebf0" } = {}) {
  const ratio = window.devicePixelRatio || 1;
  const step = 19 * ratio;
  context.textBaseline = "middle";
  lines.forEach((line, index) => {
    const isLarge = colour === WARNING && index === 0;
    context.font = `${isLarge ? "bold " : ""}${(isLarge ? 16 : 13) * ratio}px system-ui, sans-serif`;
    const wide = context.measureText(line).width + 10 * ratio;
    const [x, y] = [right ? context.canvas.width - wide - 6 * ratio : 6 * ratio, 6 * ratio + step * index];
    context.fillStyle = "rgb(0 0 0 / .65)";
    context.fillRect(x, y, wide, step);
    context.fillStyle = colour;
    context.fillText(line, x + 5 * ratio, y + step / 2);
  });
}
